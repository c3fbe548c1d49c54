"""Hundreds of pulls of one image, and thousands of released leases: frequent statements read
neither.
"""

from collections.abc import Callable

import pytest
from sqlalchemy import text

from shared.catalog.admission import space, waiting_reasons
from shared.catalog.database.catalog import Connection
from shared.catalog.fleet import due_layers, due_pulls, round_pages
from shared.catalog.layers import fetch_state, layer_slots, leases, messages, storing
from shared.catalog.layers.storing import StoredLayer
from tests.builders.images import of, rows
from tests.builders.pulls import BASE, HOST, admitted, fetching, list_layers
from tests.integration.catalog.test_backlog import rows_read

PULLS, LAYERS, PAGE = 600, 10, 20
FOLLOWERS = f"""
    INSERT INTO pulls (id, reference, platform, state, registry, repository, admitted_at)
    SELECT 'follower ' || n, 'registry.example/team/app:1', 'linux/amd64', 'fetching',
        'registry.example', 'team/app', now()
    FROM generate_series(1, {PULLS}) AS n
"""
FOLLOWED = """
    INSERT INTO pull_layers (pull_id, digest, position, size_bytes, media_type, waiting_for)
    SELECT p.id, lead.digest, lead.position, lead.size_bytes, lead.media_type,
        jsonb_build_object('cause', 'pull', 'detail', 'leader',
            'until', now() + interval '1 minute')
    FROM pulls p, pull_layers lead WHERE p.id LIKE 'follower%' AND lead.pull_id = 'leader'
"""
RELEASED = """
    INSERT INTO leases (registry, digest, fence, expires_at, bytes_total)
    SELECT 'registry.example', 'sha256:' || n, n, now() - interval '1 hour', 100
    FROM generate_series(1, 20000) AS n
"""
# Each statement of a scan reads each layer of each pull of the page once, with its blob and its
# lease.
MOST_PER_SCAN = PAGE * LAYERS * 20
FEW = 200


@pytest.fixture
def crowd(tx: Connection, monkeypatch: pytest.MonkeyPatch) -> Connection:
    """Hundreds of pulls follow one pull; a page holds few of them."""
    monkeypatch.setattr(round_pages, "BATCH", PAGE)
    fetching(tx, "leader", [BASE, *(of(f"layer {number}") for number in range(LAYERS - 1))])
    for statement in (FOLLOWERS, FOLLOWED, RELEASED, "ANALYZE pulls, pull_layers, blobs, leases"):
        tx.execute(text(statement))
    assert rows(tx, "SELECT count(*) FROM pull_layers") == [((PULLS + 1) * LAYERS,)]
    return tx


def scan(tx: Connection) -> None:
    page = round_pages.under_way(tx)
    assert len(page) == PAGE
    round_pages.with_passed_wait(tx)
    sent = {pull_id for _, pull_id in round_pages.with_message(tx)}
    assert sent == {"leader"}
    page += sent
    due_pulls.whole(tx, page)
    due_pulls.coordinators(tx, page)
    assert len(due_layers.layers(tx, page, 30)) == LAYERS
    waiting_reasons.refresh(tx, page, no_pull_worker=False, no_layer_worker=False)
    leases.shorten_after_clock_change(tx)


def test_a_scan_reads_its_page_and_not_all_pulls_under_way(crowd: Connection) -> None:
    assert rows_read(crowd, scan) < MOST_PER_SCAN


def take(tx: Connection) -> None:
    leases.take(tx, HOST, BASE, owner="me", pull_id="leader", bytes_total=100, lease_seconds=30)


def plan(tx: Connection) -> None:
    admitted(tx, "new")
    list_layers(tx, [BASE], "new")
    assert messages.send_or_follow(tx, "new", [BASE]) == {BASE: "leader"}


STATEMENTS: dict[str, Callable[[Connection], object]] = {
    "reserved space": lambda tx: space.reserved_bytes(tx, "follower 7"),
    "a lease": take,
    "a slot": lambda tx: layer_slots.may_take_slot(tx, HOST, BASE, 8, 4),
    "a plan": plan,
    "a layer": lambda tx: fetch_state.load(tx, "leader", BASE),
    "a landing": lambda tx: storing.store_layers(tx, [StoredLayer("leader", BASE, 100, "network")]),
}


@pytest.mark.parametrize("statement", STATEMENTS)
def test_followers_and_released_leases_are_not_read_for(crowd: Connection, statement: str) -> None:
    assert rows_read(crowd, STATEMENTS[statement]) < FEW


def test_followers_need_no_space_of_their_own(crowd: Connection) -> None:
    assert space.reserved_bytes(crowd, "follower 7") == LAYERS * 100


def test_reasons_are_written_for_the_pulls_of_the_page_alone(crowd: Connection) -> None:
    page = round_pages.under_way(crowd)
    waiting_reasons.refresh(crowd, page, no_pull_worker=False, no_layer_worker=False)
    explained = rows(
        crowd,
        "SELECT id, waiting_for->>'cause', waiting_for->>'detail' FROM pulls"
        " WHERE waiting_for IS NOT NULL",
    )
    assert sorted(explained) == [(pull_id, "pull", "leader") for pull_id in sorted(page)]

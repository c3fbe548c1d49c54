"""A backlog of ten thousand pulls: frequent statements must not read all of it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Select, UpdateBase, text

from shared.catalog.admission import admission, pauses, recording, space, waiting_reasons, window
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.fleet import due_layers, due_pulls, fleet_slots, late_pulls, round_pages
from shared.catalog.layers import fetch_state, layer_slots
from shared.catalog.model.pull_values import NewPull
from tests.builders.images import PLATFORM, of, rows
from tests.builders.pulls import BASE, HOST, admit, admitted, plan
from tests.support.waiting import wait_until

QUEUED = """
    INSERT INTO pulls (id, reference, priority, requested_by, registry, repository, created_at,
        deadline_at)
    SELECT 'queued ' || n, 'registry.example/team/app:1', n % 10, 'requester ' || n % 13,
        'registry.example', 'team/app', now() - make_interval(secs => n), now() + interval '1 hour'
    FROM generate_series(1, 10000) AS n
"""
# A catalog keeps pulls that have ended, so most rows are irrelevant to these statements.
ENDED = """
    INSERT INTO pulls (id, reference, state, registry, repository, admitted_at, created_at,
        finished_at, answered_at)
    SELECT 'ended ' || n, 'registry.example/team/app:1', 'complete', 'registry.example',
        'team/app', now(), now(), now(), now()
    FROM generate_series(1, 50000) AS n
"""
ENDED_LAYERS = """
    INSERT INTO pull_layers (pull_id, digest, position, size_bytes, media_type)
    SELECT 'ended ' || n, 'sha256:' || n, 0, 100, 'layer' FROM generate_series(1, 50000) AS n
"""
ANALYZE = "ANALYZE pulls, pull_layers, blobs"

LINE, IN_LINE = 10_000, "state = 'queued' AND admitted_at IS NULL"
# A statement may read at most this many rows: a fifth of the waiting pulls.
UNDER_WAY, MOST_ROWS = 10, 2000
# Index entries of ten thousand dead rows fill about a hundred pages.
MOST_PAGES = 100


@pytest.fixture
def backlog(tx: Connection) -> Connection:
    """Ten thousand pulls wait for their turn, and the planner's statistics are up to date."""
    for statement in (QUEUED, ENDED, ENDED_LAYERS, ANALYZE):
        tx.execute(text(statement))
    return tx


@pytest.fixture
def busy(backlog: Connection) -> Connection:
    """In addition, a few pulls are under way, and the window has few places left."""
    fleet_slots.count_slots(backlog, 4, 4)
    for number in range(UNDER_WAY):
        admitted(backlog, f"way {number}")
        plan(backlog, [BASE, of(f"top {number}")], f"way {number}")
    backlog.execute(text(ANALYZE))
    return backlog


@pytest.fixture
def sudden(tx: Connection) -> Connection:
    """The same, but the statistics are older than the waiting pulls: the planner expects none."""
    for statement in (ENDED, ENDED_LAYERS, ANALYZE, QUEUED):
        tx.execute(text(statement))
    fleet_slots.count_slots(tx, 4, 4)
    for number in range(UNDER_WAY):
        admitted(tx, f"way {number}")
        plan(tx, [BASE, of(f"top {number}")], f"way {number}")
    return tx


READ = "SELECT coalesce(sum(seq_tup_read + idx_tup_fetch), 0) FROM pg_stat_xact_user_tables"


def rows_read(tx: Connection, ask: Callable[[Connection], object]) -> int:
    """How many rows of all tables PostgreSQL reads for this."""
    before = int(tx.execute(text(READ)).scalar_one())
    ask(tx)
    return int(tx.execute(text(READ)).scalar_one()) - before


def refresh(tx: Connection) -> None:
    waiting_reasons.refresh(
        tx, round_pages.under_way(tx), no_pull_worker=False, no_layer_worker=False
    )


def look_for_lost(tx: Connection) -> None:
    round_pages.with_message(tx)
    round_pages.with_passed_wait(tx)
    page = round_pages.under_way(tx)
    due_pulls.whole(tx, page)
    due_pulls.coordinators(tx, page)
    due_layers.layers(tx, page, 30)


def reserve(tx: Connection) -> None:
    space.reserved_bytes(tx, "way 1")


def look_at_a_layer(tx: Connection) -> None:
    fetch_state.load(tx, "way 1", BASE)


def arrive(tx: Connection) -> None:
    new = NewPull(
        id="new",
        reference="registry.example/team/app:1",
        platform="linux/amd64",
        registry="registry.example",
        repository="team/app",
    )
    assert recording.arrive(tx, new, PLATFORM) is not None


@pytest.mark.parametrize(
    "ask",
    [
        admit,
        arrive,
        round_pages.unfinished,
        late_pulls.overdue,
        lambda tx: late_pulls.unanswered(tx, 3.0),
        look_for_lost,
        refresh,
        reserve,
        look_at_a_layer,
        layer_slots.dispatch_waiting_for_slot,
    ],
)
def test_frequent_statements_do_not_read_all_waiting_pulls(
    busy: Connection, ask: Callable[[Connection], object]
) -> None:
    assert rows_read(busy, ask) < MOST_ROWS


@pytest.mark.parametrize(
    "ask",
    [
        admit,
        arrive,
        lambda tx: recording.admit_alone(tx, "queued 7", PLATFORM),
        look_for_lost,
        refresh,
        reserve,
        look_at_a_layer,
        layer_slots.dispatch_waiting_for_slot,
    ],
)
def test_statements_of_each_pull_do_not_read_them_with_outdated_statistics_either(
    sudden: Connection, ask: Callable[[Connection], object]
) -> None:
    assert rows_read(sudden, ask) < MOST_ROWS


def plan_of(tx: Connection, statement: UpdateBase | Select[Any], **values: object) -> Any:
    """Run a statement. Returns the root of its plan."""
    compiled = statement.compile(dialect=tx.dialect)
    explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {compiled}"
    (explained,) = tx.exec_driver_sql(explain, compiled.construct_params(values)).scalar_one()
    return explained["Plan"]


def plans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A node of a plan, and all nodes below it."""
    yield node
    for child in node.get("Plans", ()):
        yield from plans(child)


def test_reasons_of_waiting_pulls_are_written_without_comparing_all_with_all(
    sudden: Connection,
) -> None:
    without = f"SELECT count(*) FROM pulls WHERE {IN_LINE} AND waiting_for IS NULL"
    after, written = "", 0
    while page := round_pages.waiting(sudden, after):
        for step in plans(plan_of(sudden, waiting_reasons._REFRESH_WAITING, page_id=page)):
            # A nested loop reads each row of the page a few times, not once per other row.
            assert step["Actual Rows"] * step["Actual Loops"] <= 2 * len(page), step
            assert step.get("Rows Removed by Join Filter", 0) * step["Actual Loops"] <= len(page)
        after, written = page[-1], written + len(page)
        assert rows(sudden, without) == [(LINE - written,)]
    assert written == LINE


@pytest.mark.parametrize("statement", [window.UNDER_WAY, admission._HIGHEST_WAITING])
def test_index_entries_of_ended_pulls_are_not_read_again_and_again(
    catalog: Catalog, statement: Select[Any]
) -> None:
    with catalog.begin() as tx:
        for preparation in (QUEUED, ENDED, ANALYZE):
            tx.execute(text(preparation))
    admit = "state = 'queued', admitted_at = now()"
    for change in (admit, "state = 'resolving'", "state = 'fetching'", "state = 'complete'"):
        with catalog.begin() as tx:
            tx.execute(text(f"UPDATE pulls SET {change} WHERE id LIKE 'queued%'"))

    def pages_read() -> int:
        with catalog.begin() as tx:
            plan = plan_of(tx, statement)
        return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    # The first read marks the entries as dead, unless autovacuum's snapshot still needs them.
    wait_until(lambda: pages_read() < MOST_PAGES)


@pytest.mark.parametrize("scope", [("fleet", ""), ("registry", HOST), ("requester", "ci")])
def test_paused_pulls_are_skipped_without_being_read(
    busy: Connection, scope: tuple[str, str]
) -> None:
    busy.execute(text("UPDATE pulls SET requested_by = 'ci' WHERE admitted_at IS NULL"))
    pauses.pause(busy, *scope)
    admitted_ids: list[str] = []
    assert rows_read(busy, lambda tx: admitted_ids.extend(admit(tx))) < MOST_ROWS
    assert admitted_ids == []


def test_of_ten_thousand_pulls_the_most_urgent_of_every_requester_are_admitted(
    backlog: Connection,
) -> None:
    fleet_slots.count_slots(backlog, 13, None)
    # Four messages per slot, and a quarter more for urgent pulls.
    assert len(admit(backlog)) == 65
    by_requester = """
        SELECT requested_by, count(*), min(priority) FROM pulls
        WHERE state = 'queued' AND admitted_at IS NOT NULL GROUP BY 1
    """
    assert {(count, lowest) for _, count, lowest in rows(backlog, by_requester)} == {(5, 9)}
    assert admit(backlog) == []


def test_pulls_that_wait_for_their_turn_need_no_recovery(backlog: Connection) -> None:
    assert round_pages.unfinished(backlog) == round_pages.Unfinished(open=True, unanswered=False)
    assert round_pages.under_way(backlog) == []
    assert round_pages.with_message(backlog) == []

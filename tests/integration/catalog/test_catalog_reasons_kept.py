"""What a round of reasons leaves as it is, and the bytes that it brings up to date."""

import pytest

from shared.catalog import (
    arrivals,
    blobs,
    ends,
    pauses,
    pull_layers,
    pulls,
    registry_holds,
)
from shared.catalog.database import Catalog, Connection
from shared.catalog.pull_values import NewPull
from tests.integration.catalog.given import PLATFORM, TAG, rows, together
from tests.integration.catalog.given_leases import reach, report
from tests.integration.catalog.given_pulls import (
    BASE,
    HOST,
    OTHER_HOST,
    REPOSITORY,
    TOP,
    admitted,
    change,
    fetching,
    record,
    row,
)
from tests.integration.catalog.given_reasons import refresh, versions, why

pytestmark = pytest.mark.integration


def one_of_each(tx: Connection) -> None:
    """Pulls that wait for this and that, and one that moves."""
    record(tx, "turn")
    admitted(tx, "backoff")
    pulls.wait(tx, "backoff", "backoff", 120, "later")
    fetching(tx, "moves")
    reach(tx, 40, pull_id="moves")
    fetching(tx, "joined")
    fetching(tx, "queued", [TOP])
    fetching(tx, "limited", [TOP])
    pull_layers.wait(tx, "limited", TOP, "rate_limit", 120, "later")


def test_nothing_is_rewritten_when_nothing_has_changed(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        one_of_each(tx)
        refresh(tx)
        before = versions(tx)
    with catalog.begin() as tx:
        refresh(tx)
        assert versions(tx) == before
        ends.cancel(tx, "queued", "Enough.")
        changed = set(versions(tx)) - set(before)
        refresh(tx)
        assert set(versions(tx)) - set(before) == changed


HELD = "held"


@pytest.mark.parametrize(
    "paused",
    [None, ("fleet", ""), ("registry", HOST), ("requester", "ci"), ("requester", ""), (HELD, HOST)],
)
def test_what_has_come_a_moment_ago_and_has_to_wait_has_its_reason_already(
    catalog: Catalog, paused: tuple[str, str] | None
) -> None:
    place = {"registry": HOST, "repository": REPOSITORY}
    with catalog.begin() as tx:
        if paused and paused[0] == HELD:
            registry_holds.hold(tx, HOST, 3600, "Too many requests.")
        elif paused:
            pauses.pause(tx, *paused)
        # Somebody stands in the line, so that it is nobody's turn.
        record(tx, "first")
        refresh(tx)
        for requester in ("ci", None):
            new = NewPull(f"of {requester}", TAG, PLATFORM, requested_by=requester, **place)
            pull = arrivals.arrive(tx, new)
            assert pull is not None
            assert pull.waiting_for is not None
        before = versions(tx)
    with catalog.begin() as tx:
        refresh(tx)
        assert versions(tx) == before


def test_a_reason_whose_time_is_over_gets_a_new_one(tx: Connection) -> None:
    record(tx)
    refresh(tx)
    past = """jsonb_set(waiting_for, '{until}', to_jsonb(now() - interval '1 s'))"""
    change(tx, "p", f"waiting_for = {past}")
    assert why(tx) == ("turn", "others are before it")


def test_rows_that_somebody_works_on_are_left_for_the_next_time(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        fetching(tx, "locked")
        fetching(tx, "free")
        reach(tx, 40, pull_id="another")
    with catalog.begin() as holder:
        pulls.lock(holder, "locked")
        with catalog.begin() as tx:
            refresh(tx)
            assert (row(tx, "locked").waiting_for, row(tx, "locked").bytes_done) == (None, 0)
            assert (why(tx, "free"), row(tx, "free").bytes_done) == (("pull", "another"), 40)
    with catalog.begin() as tx:
        assert (why(tx, "locked"), row(tx, "locked").bytes_done) == (("pull", "another"), 40)


def test_what_has_ended_is_never_given_a_reason(catalog: Catalog) -> None:
    pull_ids = [f"pull {number}" for number in range(150)]
    with catalog.begin() as tx:
        for pull_id in pull_ids:
            admitted(tx, pull_id)

    def end() -> None:
        for pull_id in pull_ids:
            with catalog.begin() as tx:
                ends.cancel(tx, pull_id, "Enough.")

    def explain() -> None:
        for number in range(60):
            # Each round has something else to say.
            with catalog.begin() as tx:
                refresh(tx, no_pull_worker=number % 2 == 0)

    together([end, explain, explain])
    with catalog.begin() as tx:
        assert rows(tx, "SELECT id FROM pulls WHERE waiting_for IS NOT NULL") == []


# Bytes


def test_the_bytes_of_who_waits_follow_the_lease_of_who_leads(tx: Connection) -> None:
    fetching(tx, "leader", [BASE, TOP])
    fetching(tx, "joined", [BASE])
    fetching(tx, "elsewhere", [BASE], registry=OTHER_HOST)
    fence = reach(tx, 40, pull_id="leader")
    for reached in (40, 70):
        assert report(tx, fence, reached)
        refresh(tx)
        done = [row(tx, pull_id).bytes_done for pull_id in ("leader", "joined", "elsewhere")]
        assert done == [reached, reached, 0]


def test_stored_layers_count_whole(tx: Connection) -> None:
    fetching(tx, digests=[BASE, TOP])
    blobs.store_layer(tx, BASE, 100)
    reach(tx, 40, digest=TOP)
    refresh(tx)
    assert row(tx).bytes_done == 140

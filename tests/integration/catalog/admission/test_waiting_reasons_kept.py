"""Which rows a round of reasons leaves unwritten, and the bytes that it updates."""

import pytest

from shared.catalog.admission import pauses, recording, registry_holds
from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.layers import pull_layers
from shared.catalog.model.pull_values import NewPull
from shared.catalog.pulls import finish, lifecycle
from tests.builders.images import PLATFORM, TAG, rows, together
from tests.builders.leases import reach, report
from tests.builders.pulls import (
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
from tests.integration.catalog.admission.given_reasons import refresh, versions, why


def pulls_with_every_reason(tx: Connection) -> None:
    """Pulls that wait for different reasons, and one that is being fetched."""
    record(tx, "turn")
    admitted(tx, "backoff")
    lifecycle.wait(tx, "backoff", "backoff", 120, "later")
    fetching(tx, "moves")
    reach(tx, 40, pull_id="moves")
    fetching(tx, "joined")
    fetching(tx, "queued", [TOP])
    fetching(tx, "limited", [TOP])
    pull_layers.wait(tx, "limited", TOP, "rate_limit", 120, "later")


def test_no_row_is_rewritten_when_nothing_has_changed(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        pulls_with_every_reason(tx)
        refresh(tx)
        before = versions(tx)
    with catalog.begin() as tx:
        refresh(tx)
        assert versions(tx) == before
        finish.cancel(tx, "queued", "Enough.")
        changed = set(versions(tx)) - set(before)
        refresh(tx)
        assert set(versions(tx)) - set(before) == changed


HELD = "held"


@pytest.mark.parametrize(
    "paused",
    [None, ("fleet", ""), ("registry", HOST), ("requester", "ci"), ("requester", ""), (HELD, HOST)],
)
def test_a_new_pull_that_has_to_wait_is_recorded_with_its_reason(
    catalog: Catalog, paused: tuple[str, str] | None
) -> None:
    place = {"registry": HOST, "repository": REPOSITORY}
    with catalog.begin() as tx:
        if paused and paused[0] == HELD:
            registry_holds.hold(tx, HOST, 3600, "Too many requests.")
        elif paused:
            pauses.pause(tx, *paused)
        # A pull waits already, so later pulls are not admitted at once.
        record(tx, "first")
        refresh(tx)
        for requester in ("ci", None):
            new = NewPull(f"of {requester}", TAG, PLATFORM, requested_by=requester, **place)
            pull = recording.arrive(tx, new, PLATFORM)
            assert pull is not None
            assert pull.waiting_for is not None
        before = versions(tx)
    with catalog.begin() as tx:
        refresh(tx)
        assert versions(tx) == before


def test_a_reason_whose_time_has_passed_gets_a_new_time(tx: Connection) -> None:
    record(tx)
    refresh(tx)
    past = """jsonb_set(waiting_for, '{until}', to_jsonb(now() - interval '1 s'))"""
    change(tx, "p", f"waiting_for = {past}")
    assert why(tx) == ("turn", "other pulls come first")


def test_locked_rows_are_left_for_the_next_round(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        fetching(tx, "locked")
        fetching(tx, "free")
        reach(tx, 40, pull_id="another")
    with catalog.begin() as holder:
        lifecycle.lock(holder, "locked")
        with catalog.begin() as tx:
            refresh(tx)
            assert (row(tx, "locked").waiting_for, row(tx, "locked").bytes_done) == (None, 0)
            assert (why(tx, "free"), row(tx, "free").bytes_done) == (("pull", "another"), 40)
    with catalog.begin() as tx:
        assert (why(tx, "locked"), row(tx, "locked").bytes_done) == (("pull", "another"), 40)


def test_a_pull_that_has_ended_never_gets_a_reason(catalog: Catalog) -> None:
    pull_ids = [f"pull {number}" for number in range(150)]
    with catalog.begin() as tx:
        for pull_id in pull_ids:
            admitted(tx, pull_id)

    def end() -> None:
        for pull_id in pull_ids:
            with catalog.begin() as tx:
                finish.cancel(tx, pull_id, "Enough.")

    def explain() -> None:
        for number in range(60):
            # The reason changes with every round.
            with catalog.begin() as tx:
                refresh(tx, no_pull_worker=number % 2 == 0)

    together([end, explain, explain])
    with catalog.begin() as tx:
        assert rows(tx, "SELECT id FROM pulls WHERE waiting_for IS NOT NULL") == []


# Bytes


def test_the_bytes_of_a_follower_are_those_of_the_lease_it_waits_for(tx: Connection) -> None:
    fetching(tx, "leader", [BASE, TOP])
    fetching(tx, "joined", [BASE])
    fetching(tx, "elsewhere", [BASE], registry=OTHER_HOST)
    fence = reach(tx, 40, pull_id="leader")
    for reached in (40, 70):
        assert report(tx, fence, reached)
        refresh(tx)
        done = [row(tx, pull_id).bytes_done for pull_id in ("leader", "joined", "elsewhere")]
        assert done == [reached, reached, 0]


def test_stored_layers_count_with_their_full_size(tx: Connection) -> None:
    fetching(tx, digests=[BASE, TOP])
    stored_blobs.store_layer(tx, BASE, 100)
    reach(tx, 40, digest=TOP)
    refresh(tx)
    assert row(tx).bytes_done == 140

"""Room on the volume: what is planned and not yet there, each blob once."""

import pytest

from shared.catalog import blobs, leases, pull_layers, pulls, space
from shared.catalog.database import Catalog, Connection
from tests.integration.catalog.given import together
from tests.integration.catalog.given_leases import expire, reach
from tests.integration.catalog.given_pulls import (
    BASE,
    HOST,
    OTHER_HOST,
    TOP,
    admitted,
    fetching,
    follow,
    list_layers,
    send_all,
)

pytestmark = pytest.mark.integration


def reserved(tx: Connection, pull_id: str = "nobody") -> int:
    return space.reserved_bytes(tx, pull_id)


def test_a_fleet_at_rest_reserves_nothing(tx: Connection) -> None:
    assert reserved(tx) == 0


def test_a_blob_that_many_want_is_written_once(tx: Connection) -> None:
    fetching(tx, "a", [BASE, TOP])
    fetching(tx, "b", [BASE])
    fetching(tx, "elsewhere", [BASE], registry=OTHER_HOST)
    assert reserved(tx) == 200


def test_of_different_claims_the_largest_is_believed(tx: Connection) -> None:
    fetching(tx, "a")
    fetching(tx, "b", size_bytes=300)
    assert reserved(tx) == 300


def test_what_is_there_needs_no_room(tx: Connection) -> None:
    fetching(tx, digests=[BASE, TOP])
    blobs.store_layer(tx, TOP, 100)
    fence = reach(tx, 40)
    assert reserved(tx) == 60
    # Whoever wrote it, the bytes are on the volume.
    expire(tx)
    assert reserved(tx) == 60
    leases.release(tx, HOST, BASE, fence, 70)
    assert reserved(tx) == 30


def test_more_bytes_than_were_promised_give_no_room_to_others(tx: Connection) -> None:
    fetching(tx, digests=[BASE, TOP])
    reach(tx, 1000)
    assert reserved(tx) == 100


def test_what_has_ended_needs_no_room(tx: Connection) -> None:
    for state in ("failed", "cancelled", "complete"):
        fetching(tx, state)
        tx.exec_driver_sql(f"UPDATE pulls SET state = '{state}' WHERE id = '{state}'")
    assert reserved(tx) == 0


def test_a_plan_counts_for_itself_and_for_others_once_it_is_carried_out(tx: Connection) -> None:
    fetching(tx, "under way", [BASE])
    admitted(tx)
    list_layers(tx, [BASE, TOP])
    assert (reserved(tx, "p"), reserved(tx)) == (200, 100)
    send_all(tx)
    assert reserved(tx) == 200
    pulls.linking(tx, "p")
    assert reserved(tx) == 200


def test_of_plans_at_once_each_counts_on_what_the_others_left(catalog: Catalog) -> None:
    room_bytes, went_on = 300, []
    with catalog.begin() as tx:
        for number in range(6):
            admitted(tx, f"{number}")

    def plan(pull_id: str) -> None:
        with catalog.begin() as tx:
            list_layers(tx, [BASE.of(pull_id.encode())], pull_id)
            space.lock(tx)
            if space.reserved_bytes(tx, pull_id) <= room_bytes:
                send_all(tx, pull_id)
                went_on.append(pull_id)

    together([lambda number=number: plan(f"{number}") for number in range(6)])
    assert len(went_on) == 3
    with catalog.begin() as tx:
        assert reserved(tx) == room_bytes


def test_what_waits_for_a_time_keeps_its_room_and_what_follows_it_needs_none(
    tx: Connection,
) -> None:
    fetching(tx, "leader", [BASE, TOP])
    follow(tx, "follower", [BASE, TOP])
    assert reserved(tx) == 200
    pull_layers.wait(tx, "leader", BASE, "backoff", 60, "later")
    assert reserved(tx) == 200
    pull_layers.wait(tx, "leader", BASE, "backoff", -1, "a moment ago")
    assert reserved(tx) == 200
    # Its message is gone; who fetches it now has the lease.
    pull_layers.wait(tx, "leader", BASE, "backoff", -3600, "long ago")
    assert reserved(tx) == 100
    reach(tx, 40, pull_id="follower")
    assert reserved(tx) == 160

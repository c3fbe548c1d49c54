"""Reserved space on the volume: what planned pulls still have to write, each blob once."""

from shared.catalog.admission import space
from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.layers import leases, pull_layers
from shared.catalog.pulls import lifecycle
from tests.builders.images import of, together
from tests.builders.leases import expire, reach
from tests.builders.pulls import (
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


def reserved(tx: Connection, pull_id: str = "no such pull") -> int:
    return space.reserved_bytes(tx, pull_id)


def test_an_idle_fleet_reserves_nothing(tx: Connection) -> None:
    assert reserved(tx) == 0


def test_a_blob_that_several_pulls_want_counts_once(tx: Connection) -> None:
    fetching(tx, "a", [BASE, TOP])
    fetching(tx, "b", [BASE])
    fetching(tx, "elsewhere", [BASE], registry=OTHER_HOST)
    assert reserved(tx) == 200


def test_of_different_claims_of_a_size_the_largest_counts(tx: Connection) -> None:
    fetching(tx, "a")
    fetching(tx, "b", size_bytes=300)
    assert reserved(tx) == 300


def test_bytes_on_the_volume_need_no_space(tx: Connection) -> None:
    fetching(tx, digests=[BASE, TOP])
    stored_blobs.store_layer(tx, TOP, 100)
    fence = reach(tx, 40)
    assert reserved(tx) == 60
    # The owner has died, but its bytes are on the volume.
    expire(tx)
    assert reserved(tx) == 60
    leases.release(tx, HOST, BASE, fence, 70)
    assert reserved(tx) == 30


def test_more_bytes_than_claimed_free_no_space_for_other_blobs(tx: Connection) -> None:
    fetching(tx, digests=[BASE, TOP])
    reach(tx, 1000)
    assert reserved(tx) == 100


def test_pulls_that_have_ended_need_no_space(tx: Connection) -> None:
    for state in ("failed", "cancelled", "complete"):
        fetching(tx, state)
        tx.exec_driver_sql(f"UPDATE pulls SET state = '{state}' WHERE id = '{state}'")
    assert reserved(tx) == 0


def test_a_plan_counts_for_its_own_pull_and_after_the_fan_out_for_all(tx: Connection) -> None:
    fetching(tx, "under way", [BASE])
    admitted(tx)
    list_layers(tx, [BASE, TOP])
    assert (reserved(tx, "p"), reserved(tx)) == (200, 100)
    send_all(tx)
    assert reserved(tx) == 200
    lifecycle.start_linking(tx, "p")
    assert reserved(tx) == 200


def test_plans_at_once_do_not_count_on_the_same_space(catalog: Catalog) -> None:
    free_bytes, planned = 300, []
    with catalog.begin() as tx:
        for number in range(6):
            admitted(tx, f"{number}")

    def plan(pull_id: str) -> None:
        with catalog.begin() as tx:
            layers = [of(pull_id)]
            list_layers(tx, layers, pull_id)
            space.lock(tx)
            if space.reserved_bytes(tx, pull_id) <= free_bytes:
                send_all(tx, layers, pull_id)
                planned.append(pull_id)

    together([lambda number=number: plan(f"{number}") for number in range(6)])
    assert len(planned) == 3
    with catalog.begin() as tx:
        assert reserved(tx) == free_bytes


def test_a_layer_in_backoff_keeps_its_space_and_its_followers_need_none(
    tx: Connection,
) -> None:
    fetching(tx, "leader", [BASE, TOP])
    follow(tx, "follower", [BASE, TOP])
    assert reserved(tx) == 200
    pull_layers.wait(tx, "leader", BASE, "backoff", 60, "later")
    assert reserved(tx) == 200
    pull_layers.wait(tx, "leader", BASE, "backoff", -1, "a moment ago")
    assert reserved(tx) == 200
    # It has no message any more; if a worker fetches it, the lease counts.
    pull_layers.wait(tx, "leader", BASE, "backoff", -3600, "long ago")
    assert reserved(tx) == 100
    reach(tx, 40, pull_id="follower")
    assert reserved(tx) == 160

"""Which pull sends the message for a layer, and which pulls follow it."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.layers import leases, messages, pull_layers, storing, waiters
from shared.catalog.pulls import finish, lifecycle
from shared.oci.digest import Digest
from tests.builders.images import rows, together
from tests.builders.pulls import BASE, HOST, OTHER_HOST, TOP, admitted, fetching, layer, list_layers
from tests.support.waiting import wait_until

ALL_MESSAGES = "SELECT pull_id FROM pull_layers WHERE has_message ORDER BY pull_id, digest"


def fan_out(
    tx: Connection, pull_id: str = "p", digests: tuple[Digest, ...] = (BASE,), **asked: Any
) -> list[str | None]:
    """Plan a pull. Returns the pull that each layer follows; None for a layer with a message."""
    admitted(tx, pull_id, **asked)
    list_layers(tx, digests, pull_id)
    leaders = messages.send_or_follow(tx, pull_id, digests)
    lifecycle.start_fetching(tx, pull_id)
    return [leaders[digest] for digest in digests]


def take(tx: Connection, pull_id: str, registry: str = HOST) -> None:
    leases.take(
        tx, registry, BASE, owner="worker", pull_id=pull_id, bytes_total=100, lease_seconds=30
    )


def test_the_first_pull_sends_the_messages_and_later_pulls_follow_it(tx: Connection) -> None:
    assert fan_out(tx, "first", (BASE, TOP)) == [None, None]
    assert fan_out(tx, "second", (BASE, TOP)) == ["first", "first"]
    assert fan_out(tx, "third", (BASE,)) == ["first"]
    assert rows(tx, ALL_MESSAGES) == [("first",), ("first",)]
    followed = layer(tx, BASE, "third")
    assert (followed.dispatched_at, followed.not_before) == (None, None)
    assert followed.waiting_for is not None
    assert (followed.waiting_for["cause"], followed.waiting_for["detail"]) == ("pull", "first")


def test_the_pull_of_a_live_lease_is_followed(tx: Connection) -> None:
    fetching(tx, "holder")
    pull_layers.begin(tx, "holder", BASE)
    take(tx, "holder")
    assert fan_out(tx) == ["holder"]


def test_the_pull_of_a_released_or_expired_lease_is_not_followed(tx: Connection) -> None:
    take(tx, "gone")
    tx.exec_driver_sql("UPDATE leases SET owner = NULL")
    assert fan_out(tx, "a") == [None]
    tx.exec_driver_sql("UPDATE leases SET owner = 'dead', expires_at = now() - interval '1 s'")
    finish.cancel(tx, "a", "Enough.")
    assert fan_out(tx, "b") == [None]


def test_a_pull_of_another_registry_or_an_ended_or_paused_pull_is_not_followed(
    tx: Connection,
) -> None:
    fetching(tx, "elsewhere", registry=OTHER_HOST)
    fetching(tx, "ended")
    finish.fail(tx, "ended", "A", None, "b")
    fetching(tx, "paused", requested_by="ci")
    tx.exec_driver_sql("INSERT INTO pauses (scope, name) VALUES ('requester', 'ci')")
    assert fan_out(tx) == [None]


def test_a_pull_in_backoff_is_not_followed(tx: Connection) -> None:
    fetching(tx, "late")
    pull_layers.wait(tx, "late", BASE, "backoff", 60, "later")
    assert fan_out(tx) == [None]


def test_an_urgent_pull_sends_its_own_message_and_later_pulls_follow_it(tx: Connection) -> None:
    fetching(tx, "plain")
    assert fan_out(tx, "urgent", priority=9) == [None]
    assert fan_out(tx, "urgent too", priority=9) == ["urgent"]
    assert fan_out(tx, "another") == ["urgent"]


def test_of_pulls_that_are_planned_at_once_only_one_sends_each_message(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        for number in range(8):
            admitted(tx, f"{number}")

    def plan(pull_id: str) -> None:
        with catalog.begin() as tx:
            list_layers(tx, (BASE, TOP), pull_id)
            messages.send_or_follow(tx, pull_id, (BASE, TOP))
            lifecycle.start_fetching(tx, pull_id)

    together([lambda number=number: plan(f"{number}") for number in range(8)])
    with catalog.begin() as tx:
        assert len(rows(tx, ALL_MESSAGES)) == 2


def test_a_pull_that_ends_has_no_messages(tx: Connection) -> None:
    fan_out(tx, "cancelled", (BASE, TOP))
    finish.cancel(tx, "cancelled", "Enough.")
    assert rows(tx, ALL_MESSAGES) == []
    fan_out(tx, "failed", (BASE, TOP))
    finish.fail(tx, "failed", "A", None, "b")
    assert rows(tx, ALL_MESSAGES) == []


def successors(tx: Connection, but: str = "leader") -> list[str]:
    return [message.pull_id for message in waiters.dispatch_follower(tx, HOST, BASE, but)]


def test_the_message_of_an_ended_pull_passes_to_its_best_follower(tx: Connection) -> None:
    fan_out(tx, "leader")
    fan_out(tx, "young", age_minutes=1)
    fan_out(tx, "old", age_minutes=5)
    finish.cancel(tx, "leader", "Enough.")
    assert successors(tx) == ["old"]
    # The message of that follower covers the layer now.
    assert successors(tx) == []
    assert rows(tx, ALL_MESSAGES) == [("old",)]


def test_no_message_passes_on_while_the_layer_is_fetched_or_stored(tx: Connection) -> None:
    fan_out(tx, "leader")
    fan_out(tx, "follower")
    finish.cancel(tx, "leader", "Enough.")
    take(tx, "follower")
    assert successors(tx) == []
    tx.exec_driver_sql("DELETE FROM leases")
    stored_blobs.store_layer(tx, BASE, 100)
    assert successors(tx) == []


def test_settling_a_layer_locks_the_pull_before_the_layers_of_other_pulls(
    catalog: Catalog,
) -> None:
    with catalog.begin() as tx:
        fetching(tx, "holder")
        fetching(tx, "other")
        stored_blobs.store_layer(tx, BASE, 100)

    def settle() -> None:
        with catalog.begin() as tx:
            storing.find_whole_pulls(tx, [BASE], "holder")

    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

    def is_waiting() -> bool:
        # A new transaction each time: within one, pg_stat_activity is a snapshot.
        with catalog.begin() as observer:
            return rows(observer, waiting) == [(1,)]

    with ThreadPoolExecutor(1) as pool, catalog.begin() as tx:
        lifecycle.lock(tx, "holder")
        settled = pool.submit(settle)
        wait_until(is_waiting)
        tx.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
        # A failure that ends both pulls does this. It would deadlock with the other order.
        assert finish.fail(tx, "other", "A", None, "b")
    settled.result()

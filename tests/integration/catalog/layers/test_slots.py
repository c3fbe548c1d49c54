"""Layers that wait for a slot, and the pulls that want a layer."""

from shared.catalog.admission import pauses
from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.layers import layer_slots, leases, pull_layers, waiters
from shared.catalog.pulls import finish
from tests.builders.images import of, rows, together
from tests.builders.leases import expire, taken
from tests.builders.pulls import BASE, HOST, OTHER_HOST, TOP, fetching, layer, list_layers, record


def park(tx: Connection, pull_id: str, cause: str = "turn", seconds: float = 60) -> None:
    """Make the layer of a pull wait."""
    pull_layers.wait(tx, pull_id, BASE, cause, seconds, "no slot")


def unparked(tx: Connection) -> list[str]:
    return [message.pull_id for message in layer_slots.dispatch_waiting_for_slot(tx)]


def test_a_free_slot_goes_to_the_layer_of_the_highest_priority_then_of_the_greatest_age(
    tx: Connection,
) -> None:
    for pull_id, priority, age in (("young", 5, 1), ("old", 5, 9), ("urgent", 9, 0)):
        fetching(tx, pull_id, priority=priority, age_minutes=age)
        park(tx, pull_id)
    assert [unparked(tx) for _ in range(4)] == [["urgent"], ["old"], ["young"], []]
    freed = layer(tx, pull_id="urgent")
    assert (freed.waiting_for, freed.not_before, freed.generation) == (None, None, 2)


def test_only_layers_that_wait_for_a_slot_get_it(tx: Connection) -> None:
    for cause in ("backoff", "rate_limit", "space", "paused"):
        fetching(tx, cause)
        park(tx, cause, cause)
    fetching(tx, "its time has come")
    park(tx, "its time has come", seconds=-1)
    fetching(tx, "ended")
    park(tx, "ended")
    finish.fail(tx, "ended", "A", None, "b")
    fetching(tx, "waits for nothing")
    assert unparked(tx) == []


def test_paused_and_stored_layers_do_not_get_a_free_slot(tx: Connection) -> None:
    fetching(tx)
    park(tx, "p")
    pauses.pause(tx, "registry", HOST)
    assert unparked(tx) == []
    pauses.resume(tx, "registry", HOST)
    stored_blobs.store_layer(tx, BASE, 100)
    assert unparked(tx) == []


def test_slots_that_become_free_at_once_go_to_different_layers(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        for number in range(6):
            fetching(tx, str(number), [of(f"layer {number}")])
        tx.exec_driver_sql(
            """
            UPDATE pull_layers SET waiting_for = '{"cause": "turn"}',
                not_before = now() + interval '1 minute'
            """
        )
    freed: list[str] = []

    def free_a_slot() -> None:
        with catalog.begin() as tx:
            freed.extend(unparked(tx))

    together([free_a_slot] * 6)
    # A locked row is skipped, so fewer than six may be dispatched, but none twice.
    assert len(freed) == len(set(freed))
    with catalog.begin() as tx:
        waiting = rows(tx, "SELECT count(*) FROM pull_layers WHERE waiting_for IS NOT NULL")
        assert waiting == [(6 - len(freed),)]


# Pulls that want a layer


def test_every_open_pull_of_the_registry_that_lists_a_layer_wants_it(tx: Connection) -> None:
    fetching(tx, "b")
    fetching(tx, "a")
    record(tx, "c waits for space")
    list_layers(tx, [BASE], "c waits for space")
    fetching(tx, "ended")
    finish.fail(tx, "ended", "A", None, "b")
    fetching(tx, "elsewhere", registry=OTHER_HOST)
    fetching(tx, "of another layer", [TOP])
    assert waiters.lock_pulls_that_want(tx, HOST, BASE) == ["a", "b", "c waits for space"]


def test_the_pulls_that_want_a_layer_are_locked(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        fetching(tx, "wants it")
        fetching(tx, "does not", [TOP])
    with catalog.begin() as tx:
        waiters.lock_pulls_that_want(tx, HOST, BASE)
        with catalog.begin() as other:
            free = "SELECT id FROM pulls FOR UPDATE SKIP LOCKED"
            assert rows(other, free) == [("does not",)]


def may_take_slot(tx: Connection, *, urgent: int = 8, slots: int = 0) -> bool:
    return layer_slots.may_take_slot(tx, HOST, BASE, urgent=urgent, slots=slots)


def test_a_layer_is_as_urgent_as_the_most_urgent_pull_that_wants_it(tx: Connection) -> None:
    assert not may_take_slot(tx, urgent=1)
    fetching(tx, "plain", priority=3)
    fetching(tx, "elsewhere", priority=9, registry=OTHER_HOST)
    fetching(tx, "ended", priority=9)
    finish.cancel(tx, "ended", "Enough.")
    assert [may_take_slot(tx, urgent=urgent) for urgent in (3, 4)] == [True, False]
    fetching(tx, "urgent", priority=8)
    assert [may_take_slot(tx, urgent=urgent) for urgent in (8, 9)] == [True, False]


def test_a_layer_may_take_a_slot_while_plain_pulls_hold_fewer_than_allowed(
    tx: Connection,
) -> None:
    record(tx, "plain", priority=5)
    record(tx, "urgent", priority=9)
    taken(tx, pull_id="plain", digest=of("one"))
    taken(tx, pull_id="urgent", digest=TOP)
    released = taken(tx, pull_id="plain", digest=of("released")).fence
    leases.release(tx, HOST, of("released"), released, 0)
    assert [may_take_slot(tx, slots=slots) for slots in (1, 2)] == [False, True]
    assert [may_take_slot(tx, urgent=10, slots=slots) for slots in (2, 3)] == [False, True]
    # A companion takes no slot.
    tx.exec_driver_sql("UPDATE leases SET is_companion = true WHERE pull_id = 'plain'")
    assert may_take_slot(tx, slots=1)
    tx.exec_driver_sql("UPDATE leases SET is_companion = false")
    assert not may_take_slot(tx, slots=1)
    expire(tx)
    assert may_take_slot(tx, slots=1)

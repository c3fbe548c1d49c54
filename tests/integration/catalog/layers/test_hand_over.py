"""Which waiter continues with a layer after its lease is released."""

from collections.abc import Callable

import pytest

from shared.catalog.admission import pauses
from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.layers import messages, pull_layers, waiters
from shared.catalog.layers.messages import LayerMessage
from shared.catalog.pulls import finish, lifecycle
from tests.builders.images import TAG, together
from tests.builders.pulls import BASE, HOST, OTHER_HOST, TOP, fetching, layer, list_layers, record


def next_waiters(tx: Connection, but: str = "holder") -> list[str]:
    return [message.pull_id for message in waiters.dispatch_next_waiter(tx, HOST, BASE, but)]


def test_the_best_waiter_has_the_highest_priority_then_the_greatest_age(tx: Connection) -> None:
    fetching(tx, "holder", priority=9, age_minutes=9)
    fetching(tx, "old", age_minutes=3)
    fetching(tx, "oldest", age_minutes=5)
    assert next_waiters(tx) == ["oldest"]
    fetching(tx, "urgent", priority=8)
    assert next_waiters(tx) == ["urgent"]
    assert next_waiters(tx, but="urgent") == ["holder"]


def test_handing_a_layer_over_dispatches_a_message_of_a_new_generation(tx: Connection) -> None:
    fetching(tx, "waiter", [BASE, TOP])
    before = layer(tx, pull_id="waiter").dispatched_at
    assert waiters.dispatch_next_waiter(tx, HOST, BASE, "holder") == [
        LayerMessage("waiter", TAG, BASE, 2)
    ]
    after = layer(tx, pull_id="waiter")
    assert before is not None
    assert after.dispatched_at is not None
    assert (after.generation, after.dispatched_at > before) == (2, True)
    assert layer(tx, TOP, "waiter").generation == 1


def test_a_layer_is_never_handed_back_to_the_pull_that_released_it(tx: Connection) -> None:
    fetching(tx, "holder")
    assert next_waiters(tx) == []


# What keeps the waiter of the highest priority from continuing.
OBSTACLES: dict[str, Callable[[Connection], object]] = {
    "paused requester": lambda tx: pauses.pause(tx, "requester", "ci"),
    "backoff": lambda tx: pull_layers.wait(tx, "best", BASE, "backoff", 60, "later"),
    "cancelled": lambda tx: finish.cancel(tx, "best", "Enough."),
    "linking": lambda tx: lifecycle.start_linking(tx, "best"),
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
def test_a_waiter_that_cannot_continue_is_skipped(tx: Connection, obstacle: str) -> None:
    fetching(tx, "best", priority=9, requested_by="ci")
    fetching(tx, "plain")
    assert next_waiters(tx) == ["best"]
    OBSTACLES[obstacle](tx)
    assert next_waiters(tx) == ["plain"]


def test_a_waiter_whose_backoff_has_passed_is_not_skipped(tx: Connection) -> None:
    fetching(tx, "best", priority=9)
    pull_layers.wait(tx, "best", BASE, "backoff", -1, "a moment ago")
    assert next_waiters(tx) == ["best"]


def test_a_pull_of_another_registry_or_layer_or_without_space_is_no_waiter(
    tx: Connection,
) -> None:
    fetching(tx, "elsewhere", registry=OTHER_HOST)
    fetching(tx, "of another layer", [TOP])
    record(tx, "waits for space")
    list_layers(tx, [BASE], "waits for space")
    assert next_waiters(tx) == []


@pytest.mark.parametrize(("scope", "name"), [("fleet", ""), ("registry", HOST)])
def test_no_layer_is_handed_over_while_all_waiters_are_paused(
    tx: Connection, scope: str, name: str
) -> None:
    fetching(tx, "waiter")
    pauses.pause(tx, scope, name)
    assert next_waiters(tx) == []


def test_a_stored_blob_is_not_handed_over(tx: Connection) -> None:
    fetching(tx, "waiter")
    stored_blobs.store_layer(tx, BASE, 100)
    assert next_waiters(tx) == []


# Dispatches


def test_of_several_dispatches_at_once_one_wins(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        fetching(tx)
        seen = layer(tx).generation
    sent: list[LayerMessage | None] = []

    def dispatch() -> None:
        with catalog.begin() as tx:
            sent.append(messages.dispatch(tx, "p", BASE, seen))

    together([dispatch] * 6)
    assert [message for message in sent if message] == [LayerMessage("p", TAG, BASE, seen + 1)]
    with catalog.begin() as tx:
        assert layer(tx).generation == seen + 1


def test_a_layer_that_the_pull_does_not_list_is_not_dispatched(tx: Connection) -> None:
    fetching(tx)
    assert messages.dispatch(tx, "p", TOP) is None
    assert messages.dispatch(tx, "no such pull", BASE) is None

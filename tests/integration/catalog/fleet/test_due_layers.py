"""Layers that no worker fetches, and the pull that each should be fetched for."""

from collections.abc import Callable

import pytest

from shared.catalog.admission import pauses
from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Connection
from shared.catalog.fleet import due_layers, round_pages
from shared.catalog.fleet.due_layers import DueLayer
from shared.catalog.layers import leases, pull_layers
from shared.catalog.pulls import finish, lifecycle
from tests.builders.leases import LONG, SHORT, expire, reach, taken
from tests.builders.pulls import BASE, HOST, OTHER_HOST, TOP, fetching, list_layers, record


def due(tx: Connection, lease_seconds: float = SHORT) -> list[DueLayer]:
    return due_layers.layers(tx, round_pages.under_way(tx), lease_seconds)


def test_a_layer_without_a_lease_is_due(tx: Connection) -> None:
    fetching(tx)
    assert due(tx) == [DueLayer(HOST, "p", BASE, 1)]


def test_only_layers_that_pulls_of_the_page_want_are_due(tx: Connection) -> None:
    fetching(tx, "a", [BASE])
    fetching(tx, "b", [BASE, TOP])
    fetching(tx, "elsewhere", [BASE], registry=OTHER_HOST)
    assert [layer.digest for layer in due_layers.layers(tx, ["a"], SHORT)] == [BASE]
    assert {layer.digest for layer in due_layers.layers(tx, ["b", "gone"], SHORT)} == {BASE, TOP}
    assert due_layers.layers(tx, [], SHORT) == []


# What keeps a layer from being due.
NOT_DUE: dict[str, Callable[[Connection], object]] = {
    "a live lease": lambda tx: reach(tx, 0),
    "a lease for another pull": lambda tx: reach(tx, 0, pull_id="another"),
    "a paused fleet": lambda tx: pauses.pause(tx, "fleet"),
    "a paused registry": lambda tx: pauses.pause(tx, "registry", HOST),
    "a paused requester": lambda tx: pauses.pause(tx, "requester", "ci"),
    "a time to come": lambda tx: pull_layers.wait(tx, "p", BASE, "backoff", 60, "later"),
    "a stored blob": lambda tx: stored_blobs.store_layer(tx, BASE, 100),
    "an end": lambda tx: finish.cancel(tx, "p", "Enough."),
    "the link": lambda tx: lifecycle.start_linking(tx, "p"),
}


@pytest.mark.parametrize("circumstance", NOT_DUE)
def test_a_layer_is_not_due_with(tx: Connection, circumstance: str) -> None:
    fetching(tx, requested_by="ci")
    assert due(tx)
    NOT_DUE[circumstance](tx)
    assert due(tx) == []


# What does not keep a layer from being due.
DUE: dict[str, Callable[[Connection], object]] = {
    "a lease of another registry": lambda tx: reach(tx, 0, registry=OTHER_HOST),
    "a lease on another layer": lambda tx: reach(tx, 0, digest=TOP),
    "a released lease": lambda tx: leases.release(tx, HOST, BASE, taken(tx).fence, 0),
    "a pause of others": lambda tx: pauses.pause(tx, "requester", ""),
    "a time that has come": lambda tx: pull_layers.wait(tx, "p", BASE, "backoff", -1, "soon"),
    "a pull that was joined": lambda tx: pull_layers.join(
        tx, "p", BASE, "gone", lifecycle.clock(tx)
    ),
    "an expected blob": lambda tx: stored_blobs.expect_blobs(tx, [BASE]),
}


@pytest.mark.parametrize("circumstance", DUE)
def test_a_layer_is_due_in_spite_of(tx: Connection, circumstance: str) -> None:
    fetching(tx, requested_by="ci")
    DUE[circumstance](tx)
    assert [layer.pull_id for layer in due(tx)] == ["p"]


def test_a_layer_with_an_expired_lease_is_due_unless_the_server_has_just_started(
    tx: Connection,
) -> None:
    fetching(tx)
    taken(tx)
    expire(tx)
    assert due(tx, LONG) == []
    ((silent_seconds),) = [layer.silent_seconds for layer in due(tx)]
    assert silent_seconds is not None
    assert 0 <= silent_seconds <= 90


def test_no_layer_of_a_pull_that_waits_for_space_is_due(tx: Connection) -> None:
    record(tx)
    list_layers(tx)
    assert due(tx) == []


def test_there_is_one_due_layer_per_registry_and_digest_with_its_best_pull(
    tx: Connection,
) -> None:
    fetching(tx, "young", [BASE, TOP])
    fetching(tx, "old", [BASE], age_minutes=9)
    fetching(tx, "urgent", [TOP], priority=9)
    fetching(tx, "elsewhere", [BASE], registry=OTHER_HOST)
    assert [(layer.pull_id, layer.registry, layer.digest) for layer in due(tx)] == [
        ("urgent", HOST, TOP),
        ("old", HOST, BASE),
        ("elsewhere", OTHER_HOST, BASE),
    ]


def test_a_pull_that_waits_or_is_paused_is_not_the_best_pull(tx: Connection) -> None:
    fetching(tx, "plain")
    fetching(tx, "in backoff", priority=9)
    pull_layers.wait(tx, "in backoff", BASE, "backoff", 60, "later")
    fetching(tx, "paused", priority=9, requested_by="ci")
    pauses.pause(tx, "requester", "ci")
    assert due(tx) == [DueLayer(HOST, "plain", BASE, 1)]

"""Why a pull waits: every cause of the contract, with a detail and a time."""

import pytest

from shared.catalog.admission import pauses, registry_holds
from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Connection
from shared.catalog.fleet import node_rows, step_leases
from shared.catalog.fleet.node_rows import Node
from shared.catalog.layers import leases, pull_layers
from shared.catalog.pulls import finish, lifecycle
from tests.builders.images import rows
from tests.builders.leases import expire, reach
from tests.builders.pulls import (
    BASE,
    HOST,
    OTHER_HOST,
    TOP,
    admitted,
    begin,
    fetching,
    follow,
    record,
    row,
)
from tests.integration.catalog.admission.given_reasons import why

IN_QUEUE = ("turn", "its layers are in the queue")
NO_LAYER_WORKER = ("no_worker", "no worker consumes towline.layers")
NO_PULL_WORKER = ("no_worker", "no worker consumes towline.pulls")


def step(tx: Connection) -> None:
    """A worker resolves or links the pull."""
    assert step_leases.take(tx, step_leases.of_pull("p"), "worker", 30) is not None


# Before the plan


def test_a_pull_that_is_not_admitted_waits_for_its_turn(tx: Connection) -> None:
    record(tx)
    assert why(tx) == ("turn", "other pulls come first")
    # More workers would not admit it.
    assert why(tx, no_pull_worker=True) == ("turn", "other pulls come first")


def test_a_waiting_pull_whose_registry_asked_to_wait_has_its_detail_and_time(
    tx: Connection,
) -> None:
    record(tx)
    record(tx, "elsewhere", registry=OTHER_HOST)
    registry_holds.hold(tx, HOST, 3600, "Too many requests.")
    assert why(tx) == ("rate_limit", "Too many requests.")
    same = "(waiting_for->>'until')::timestamptz = registry_holds.until"
    assert rows(tx, f"SELECT {same} FROM pulls, registry_holds WHERE id = 'p'") == [(True,)]
    assert why(tx, "elsewhere") == ("turn", "other pulls come first")
    pauses.pause(tx, "registry", HOST)
    assert why(tx)[0] == "paused"
    pauses.resume(tx, "registry", HOST)
    tx.exec_driver_sql("UPDATE registry_holds SET until = now() - interval '1 second'")
    assert why(tx) == ("turn", "other pulls come first")


def test_a_pull_that_went_back_to_waiting_keeps_its_reason(tx: Connection) -> None:
    record(tx)
    lifecycle.wait(tx, "p", "rate_limit", 3600, "It was said.")
    assert why(tx) == ("rate_limit", "It was said.")


def test_an_admitted_pull_waits_in_the_queue_or_for_a_worker(tx: Connection) -> None:
    admitted(tx)
    assert why(tx) == ("turn", "its message is in the queue")
    assert why(tx, no_pull_worker=True) == NO_PULL_WORKER
    step(tx)
    assert why(tx) is None


def test_without_a_worker_the_reason_names_the_sick_node(tx: Connection) -> None:
    admitted(tx)
    for name, reason in (("a", None), ("b", "It can start no more threads."), ("c", "Other.")):
        node_rows.write(tx, Node(name, reason, "1.2.3", 8, None, None))
    cause, detail = why(tx, no_pull_worker=True)
    assert (cause, detail) == (
        "no_worker",
        "no worker consumes towline.pulls: b is sick: It can start no more threads.",
    )
    assert why(tx) == ("turn", "its message is in the queue")


@pytest.mark.parametrize("cause", ["rate_limit", "backoff", "space"])
def test_the_reason_of_a_step_that_has_to_run_again_is_kept(tx: Connection, cause: str) -> None:
    admitted(tx)
    begin(tx)
    lifecycle.wait(tx, "p", cause, 3600, "It was said.")
    before = row(tx)
    assert why(tx) == (cause, "It was said.")
    assert row(tx) == before


# Fetching


def test_a_pull_with_a_layer_that_is_fetched_for_it_does_not_wait(tx: Connection) -> None:
    fetching(tx, digests=[BASE, TOP])
    assert why(tx) == IN_QUEUE
    reach(tx, 40)
    assert why(tx) is None
    # A layer that waits does not hide the layer that is fetched.
    pull_layers.wait(tx, "p", TOP, "backoff", 60, "later")
    lifecycle.show_waiting(tx, "p", "backoff", 60, "later")
    assert why(tx) is None


def test_layers_in_the_queue_wait_for_their_turn_or_for_a_worker(tx: Connection) -> None:
    fetching(tx)
    assert why(tx) == IN_QUEUE
    assert why(tx, no_layer_worker=True) == NO_LAYER_WORKER


def test_a_released_or_expired_lease_does_not_count_as_progress(tx: Connection) -> None:
    fetching(tx)
    leases.release(tx, HOST, BASE, reach(tx, 40), 40)
    assert why(tx) == IN_QUEUE
    reach(tx, 40)
    expire(tx)
    assert why(tx) == IN_QUEUE


def test_a_pull_that_waits_for_the_lease_of_another_pull_names_it(tx: Connection) -> None:
    fetching(tx, digests=[BASE, TOP])
    reach(tx, 40, pull_id="leader")
    assert why(tx) == ("pull", "leader")
    stored_blobs.store_layer(tx, BASE, 100)
    assert why(tx) == IN_QUEUE


def test_a_pull_that_follows_the_messages_of_another_pull_names_it(tx: Connection) -> None:
    fetching(tx, "leader", [BASE, TOP])
    follow(tx, "follower", [BASE, TOP])
    assert why(tx, "leader") == IN_QUEUE
    assert why(tx, "follower") == ("pull", "leader")
    assert why(tx, "follower", no_layer_worker=True) == NO_LAYER_WORKER
    # Another pull sends the messages, and then no pull does.
    finish.cancel(tx, "leader", "Enough.")
    fetching(tx, "another", [BASE, TOP])
    assert why(tx, "follower") == ("pull", "another")
    finish.cancel(tx, "another", "Enough.")
    assert why(tx, "follower") == IN_QUEUE


def test_a_pull_that_has_a_message_and_follows_for_another_layer_waits_for_its_turn(
    tx: Connection,
) -> None:
    fetching(tx, "leader")
    follow(tx, "p", [BASE, TOP])
    assert why(tx) == IN_QUEUE


@pytest.mark.parametrize("cause", ["rate_limit", "backoff", "space", "turn"])
def test_the_reason_of_a_waiting_layer_is_shown_on_the_pull(tx: Connection, cause: str) -> None:
    fetching(tx)
    pull_layers.wait(tx, "p", BASE, cause, 20, "It was said.")
    assert why(tx) == (cause, "It was said.")
    same = "(pulls.waiting_for->>'until')::timestamptz = pull_layers.not_before"
    assert rows(tx, f"SELECT {same} FROM pulls, pull_layers") == [(True,)]


def test_of_several_waiting_layers_the_reason_of_the_earliest_is_shown(tx: Connection) -> None:
    fetching(tx, digests=[BASE, TOP])
    pull_layers.wait(tx, "p", BASE, "rate_limit", 3600, "In an hour.")
    pull_layers.wait(tx, "p", TOP, "backoff", 120, "In two minutes.")
    assert why(tx) == ("backoff", "In two minutes.")


def test_a_layer_whose_time_has_passed_waits_in_the_queue_or_for_a_worker(tx: Connection) -> None:
    fetching(tx)
    pull_layers.wait(tx, "p", BASE, "backoff", -1, "a moment ago")
    assert why(tx) == IN_QUEUE
    assert why(tx, no_layer_worker=True) == NO_LAYER_WORKER


# Linking


def test_a_whole_pull_waits_for_its_link_or_for_a_worker(tx: Connection) -> None:
    fetching(tx)
    stored_blobs.store_layer(tx, BASE, 100)
    for _ in ("fetching", "linking"):
        assert why(tx) == ("turn", "its message is in the queue")
        assert why(tx, no_pull_worker=True) == NO_PULL_WORKER
        lifecycle.start_linking(tx, "p")
    step(tx)
    assert why(tx) is None


def test_the_reason_of_a_link_that_has_to_run_again_is_kept(tx: Connection) -> None:
    fetching(tx)
    stored_blobs.store_layer(tx, BASE, 100)
    for _ in ("fetching", "linking"):
        lifecycle.wait(tx, "p", "backoff", 3600, "The volume is away.")
        assert why(tx) == ("backoff", "The volume is away.")
        lifecycle.start_linking(tx, "p")


# Pauses


def test_the_reason_of_a_paused_pull_is_the_sentence_of_the_pause(tx: Connection) -> None:
    fetching(tx, requested_by="ci")
    for scope, name in (("requester", "ci"), ("registry", HOST), ("fleet", "")):
        pauses.pause(tx, scope, name)
        (pause,) = (pause for pause in pauses.listing(tx) if pause.scope == scope)
        assert why(tx) == ("paused", pause.sentence)
    for scope, name in (("requester", "ci"), ("registry", HOST), ("fleet", "")):
        assert why(tx)[0] == "paused"
        pauses.resume(tx, scope, name)
    assert why(tx) == IN_QUEUE


def test_pulls_of_every_state_wait_for_the_end_of_a_pause(tx: Connection) -> None:
    record(tx, "queued")
    admitted(tx, "resolving")
    begin(tx, "resolving")
    fetching(tx, "fetching")
    pauses.pause(tx, "fleet")
    for state in ("queued", "resolving", "fetching"):
        assert why(tx, state)[0] == "paused"

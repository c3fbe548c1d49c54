"""Each cause has its sentence, its end, and what would unblock it."""

from datetime import timedelta
from pathlib import Path

import pytest

from shared.catalog.fleet.fleet_slots import FleetView
from shared.catalog.reports.queue_position import LeaseHolder, QueuePosition
from tests.builders.facts import ALIVE, DIGEST, LATER, NOW, layer, pause, pull, story, waits
from workers.doctor.explanation import how_to_resume, shown_seconds
from workers.queues.broker_messages import Messages

QUEUED = pull(state="queued", admitted_at=None)
NO_WORKERS = FleetView(0, 0, NOW, "epoch")


def test_a_waiting_pull_tells_how_many_go_before_it_and_when_its_turn_may_come() -> None:
    explained = story(QUEUED, place=QueuePosition(30, 100), ended_recently=60)
    assert explained.reason.cause == "turn"
    assert "30 pulls go before it" in explained.reason.sentence
    assert "100 pulls wait in total" in explained.reason.sentence
    assert explained.estimate is not None
    assert explained.estimate.seconds == pytest.approx(300)


def test_there_is_no_estimate_while_no_pull_ends() -> None:
    explained = story(QUEUED, place=QueuePosition(30, 100))
    assert explained.estimate is not None
    assert explained.estimate.seconds is None
    assert "no pull has ended" in explained.estimate.sentence


def test_a_layer_that_is_being_fetched_names_its_worker_and_the_time_left() -> None:
    one = layer(bytes_done=40, owner="host:77", leader="p")
    explained = story(None, one, holders={DIGEST: ALIVE}, speeds={DIGEST: 6.0})
    (fetched,) = explained.layers
    assert (explained.reason.cause, fetched.reason.cause) == (None, None)
    assert fetched.reason.sentence == "being fetched by host:77"
    assert fetched.seconds_left == pytest.approx(10)
    assert explained.estimate is not None
    assert explained.estimate.seconds == pytest.approx(10)
    assert explained.takes == []


def test_a_layer_that_another_pull_fetches_names_that_pull() -> None:
    leader = pull(id="leader", reference="registry.example/b:1", priority=7)
    holder = LeaseHolder("host:77", 20.0, 2, pull_id="leader", bytes_done=40)
    explained = story(None, layer(), holders={DIGEST: holder}, leaders={"leader": leader})
    assert (explained.reason.cause, explained.reason.pull_id) == ("pull", "leader")
    assert "registry.example/b:1 (priority 7)" in explained.reason.sentence
    assert "host:77" in explained.reason.sentence


@pytest.mark.parametrize("cause", ["backoff", "rate_limit", "space", "turn"])
def test_the_recorded_reason_of_a_layer_is_shown_with_its_end(cause: str) -> None:
    explained = story(None, layer(**waits(cause, "the registry said 503."), failures=3))
    assert (explained.reason.cause, explained.reason.until) == (cause, LATER)
    assert "the registry said 503 (3 tries without progress)" in explained.reason.sentence
    assert explained.estimate is not None
    assert "not before 40 s from now" in explained.estimate.sentence


def test_a_wait_for_space_shows_how_much_is_free_now() -> None:
    explained = story(None, layer(**waits("space")), free_bytes=1234)
    assert "1,234 bytes free now" in explained.reason.sentence
    assert explained.takes == ["free space on the volume, or enlarge it"]


@pytest.mark.parametrize(
    ("scope", "name", "command"),
    [
        ("fleet", "", "towline resume"),
        ("registry", "ghcr.io", "towline resume --registry ghcr.io"),
        ("requester", "ci", "towline resume --requester ci"),
        ("requester", "", "towline resume --requester ''"),
        ("requester", "a b", "towline resume --requester 'a b'"),
    ],
)
def test_a_pause_names_the_whole_command_that_ends_it(scope: str, name: str, command: str) -> None:
    assert how_to_resume(pause(scope, name)) == command
    explained = story(None, layer(), pause=pause(scope, name))
    assert explained.reason.cause == "paused"
    assert explained.takes == [f"run `{command}`"]


def test_a_pause_also_explains_a_pull_that_is_not_admitted_yet() -> None:
    explained = story(QUEUED, pause=pause(), place=None)
    assert explained.reason.cause == "paused"


def test_without_workers_the_queue_is_named_and_how_to_start_one() -> None:
    explained = story(None, layer(), fleet=NO_WORKERS)
    assert explained.reason.cause == "no_worker"
    assert explained.takes == ["start a worker: `celery -A workers.app worker -Q towline.layers`"]
    resolving = story(pull(state="resolving"), fleet=NO_WORKERS)
    assert "towline.pulls" in resolving.takes[0]


def test_on_the_embedded_stack_no_process_has_to_be_started_by_hand() -> None:
    logs = Path("/home/x/stack/log")
    told = story(None, layer(), fleet=NO_WORKERS, leader=None, stack_logs=logs)
    assert told.reason.cause == "no_worker"
    assert told.reason.sentence.startswith("the worker of the embedded stack does not consume")
    worker, reconciler = told.takes
    assert f"the stack starts its worker by itself, see {logs}/worker.log" in worker
    assert f"the stack starts its reconciler by itself, see {logs}/reconciler.log" in reconciler
    assert not any("`" in advice for advice in told.takes)


def test_a_message_in_the_queue_waits_for_a_slot() -> None:
    messages = Messages(layers={("p", str(DIGEST))})
    explained = story(None, layer(), messages=messages)
    assert explained.reason.cause == "turn"
    assert (
        explained.reason.sentence
        == "its message waits in towline.layers, which 4 worker slots serve"
    )


def test_a_layer_whose_message_another_pull_has_names_that_pull() -> None:
    follows = {"cause": "pull", "until": LATER.isoformat(), "detail": "leader"}
    follower = layer(waiting_for=follows)
    digest = str(DIGEST)
    for sent, named in (
        ({("leader", digest), ("another", digest)}, "leader"),
        ({("heir", digest)}, "heir"),
    ):
        explained = story(None, follower, messages=Messages(layers=sent))
        assert (explained.reason.cause, explained.reason.pull_id) == ("pull", named)
        assert f"the pull {named} has the message" in explained.reason.sentence
    assert story(None, follower, messages=None).reason.pull_id == "leader"
    assert story(None, follower, messages=Messages(layers={("p", digest)})).reason.cause == "turn"
    lost = story(None, follower, messages=Messages())
    assert (lost.reason.cause, lost.reason.pull_id) == ("turn", None)


def test_a_lost_message_is_sent_again_by_the_reconciler_or_asks_for_one() -> None:
    assert "its message is lost" in story(None, layer()).reason.sentence
    assert story(None, layer()).takes == []
    alone = story(None, layer(), leader=None)
    assert any("towline reconcile" in action for action in alone.takes)


def test_without_the_queue_it_is_open_whether_there_is_a_message() -> None:
    explained = story(None, layer(), messages=None)
    assert "should wait in towline.layers" in explained.reason.sentence


def test_a_worker_whose_lease_expired_is_named() -> None:
    dead = LeaseHolder("host:77", -12.0, 2, pull_id="p", bytes_done=40)
    explained = story(None, layer(), holders={DIGEST: dead})
    assert "the lease of host:77 expired 12 s ago" in explained.reason.sentence


def test_the_worker_that_resolves_or_links_is_named() -> None:
    step = LeaseHolder("host:9", 10.0, 3)
    assert "host:9 is resolving" in story(pull(state="resolving"), step=step).reason.sentence
    linking = story(pull(state="linking"), layer(stored=True), step=step)
    assert "host:9 is linking" in linking.reason.sentence


def test_a_failed_pull_shows_its_error_and_how_to_retry() -> None:
    failed = pull(
        state="failed", error_message="The registry is away.", attempts=5, finished_at=NOW
    )
    explained = story(failed)
    assert explained.reason.sentence == "The registry is away (5 attempts)"
    assert "towline retry p" in explained.takes[0]
    assert explained.estimate is None


def test_layers_that_wait_for_different_reasons_are_explained_one_by_one() -> None:
    explained = story(None, layer(**waits("backoff")), layer(**waits("space")))
    assert explained.reason.sentence == "its layers wait for: backoff, space"
    assert [layer.reason.cause for layer in explained.layers] == ["backoff", "space"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.2, "a moment"), (59.6, "60 s"), (150, "2 min"), (3 * 3600 + 100, "3 h")],
)
def test_durations_are_rounded_to_the_precision_of_an_estimate(seconds: float, shown: str) -> None:
    assert shown_seconds(seconds) == shown


def test_the_time_since_which_a_state_lasts_is_shown_if_it_was_recorded() -> None:
    resolved = NOW - timedelta(seconds=9)
    assert story(pull(resolved_at=resolved), layer()).since == resolved
    assert story(QUEUED).since == QUEUED.created_at
    assert story(pull(state="linking")).since is None

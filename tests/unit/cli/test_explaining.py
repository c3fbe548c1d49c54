"""Each cause has its sentence, its end, and what would unblock it."""

from datetime import timedelta
from pathlib import Path

import pytest

from shared.catalog.reports.queue_position import QueuePosition
from tests.builders.facts import DIGEST, LATER, NOW, explained, layer, pause, pull, waits
from workers.cli.display.tables import shown_seconds

QUEUED = pull(state="queued", admitted_at=None, **waits("turn", "other pulls come first"))
FETCHED = layer(bytes_done=40, owner="host:77", leader="p")
JOINED = layer(bytes_done=40, owner="host:77", leader="other")
OTHER = {"other": pull(id="other", reference="registry.example/b:1", priority=7)}


def test_a_waiting_pull_tells_how_many_go_before_it_and_when_its_turn_may_come() -> None:
    found = explained(QUEUED, place=QueuePosition(30, 100), ended_recently=60)
    assert found.reason.cause == "turn"
    assert "30 pulls go before it" in found.reason.sentence
    assert "100 pulls wait in total" in found.reason.sentence
    assert "--priority 9" in found.remedies[0]
    assert found.estimate is not None
    assert found.estimate.seconds == pytest.approx(300)


def test_the_next_pull_in_line_is_told_so() -> None:
    found = explained(QUEUED, place=QueuePosition(0, 1))
    assert found.reason.sentence == "it is admitted next, as soon as the fleet has room"
    assert "1 pull goes before it" in explained(QUEUED, place=QueuePosition(1, 2)).reason.sentence


def test_there_is_no_estimate_while_no_pull_ends() -> None:
    found = explained(QUEUED, place=QueuePosition(30, 100))
    assert found.estimate is not None
    assert found.estimate.seconds is None
    assert "no pull has ended" in found.estimate.sentence


def test_a_layer_that_is_being_fetched_names_its_worker_and_the_time_left() -> None:
    found = explained(None, FETCHED, speeds={DIGEST: 6.0})
    (fetched,) = found.layers
    assert (found.reason.cause, fetched.reason.cause) == (None, None)
    assert found.reason.sentence == "1 layer is being fetched"
    assert fetched.reason.sentence == "being fetched by host:77"
    assert fetched.seconds_left == pytest.approx(10)
    assert found.estimate is not None
    assert found.estimate.seconds == pytest.approx(10)
    assert found.remedies == []


def test_a_pull_moves_while_any_layer_is_fetched_whatever_its_row_said_before() -> None:
    found = explained(pull(**waits("turn")), FETCHED, layer())
    assert (found.reason.cause, found.layers[1].reason.cause) == (None, "turn")


def test_a_layer_that_another_pull_fetches_names_that_pull_and_its_worker() -> None:
    found = explained(pull(**waits("pull", "other")), JOINED, others=OTHER)
    (joined,) = found.layers
    assert found.reason == joined.reason
    assert (found.reason.cause, found.reason.pull_id) == ("pull", "other")
    assert "the pull other of registry.example/b:1 (priority 7) is" in found.reason.sentence
    assert "host:77" in found.reason.sentence
    assert "`towline explain other`" in found.remedies[0]


def test_the_estimate_of_a_pull_that_waits_for_a_time_is_that_time() -> None:
    limited = pull(state="queued", admitted_at=None, **waits("rate_limit"))
    found = explained(limited, place=QueuePosition(0, 1), ended_recently=60)
    assert found.estimate is not None
    assert found.estimate.sentence.startswith("not before 40 s from now")


def test_a_pull_whose_row_has_no_reason_yet_waits_for_what_its_layers_wait_for() -> None:
    assert explained(None, JOINED, others=OTHER).reason.pull_id == "other"
    assert explained(None, layer()).reason.cause == "turn"
    assert explained(pull(state="resolving")).reason.cause is None


@pytest.mark.parametrize("cause", ["backoff", "rate_limit", "space", "turn"])
def test_the_recorded_reason_of_a_layer_is_shown_with_its_end(cause: str) -> None:
    found = explained(None, layer(**waits(cause, "the registry said 503."), failures=3))
    assert (found.reason.cause, found.reason.until) == (cause, LATER)
    assert "the registry said 503 (3 tries without progress)" in found.reason.sentence


def test_the_end_of_a_wait_bounds_the_estimate_if_it_is_known() -> None:
    ends = explained(None, layer(**waits("backoff")))
    assert ends.estimate is not None
    assert "not before 40 s from now" in ends.estimate.sentence
    open_ended = explained(None, layer(**waits("turn")))
    assert open_ended.estimate is not None
    assert "not before" not in open_ended.estimate.sentence


def test_a_reason_of_a_layer_that_has_passed_gives_way_to_that_of_the_pull() -> None:
    over = layer(**waits("backoff", until=NOW - timedelta(seconds=1)))
    found = explained(pull(**waits("turn", "its layers are in the queue")), over)
    assert found.layers[0].reason.sentence == "its layers are in the queue"


@pytest.mark.parametrize(
    ("cause", "remedy"),
    [
        ("turn", "add workers, or pull with a higher priority: `towline pull --priority 9 …`"),
        ("rate_limit", "log in with an account that has a higher limit, or wait"),
        ("space", "free space on the volume, or enlarge it"),
        ("backoff", "nothing: it is tried again by itself, TOWLINE_ATTEMPTS times"),
        ("no_worker", "start a worker: `celery -A workers.app worker -Q towline.pulls`"),
        ("pull", "the end of that pull: `towline explain why` says what it waits for"),
        ("paused", "nothing: the pause has ended, and it continues within a minute"),
    ],
)
def test_every_cause_says_what_it_would_take(cause: str, remedy: str) -> None:
    found = explained(pull(state="queued", **waits(cause)))
    assert (found.reason.cause, found.reason.until) == (cause, None if cause == "pull" else LATER)
    (only,) = found.remedies
    assert only.startswith(remedy)


@pytest.mark.parametrize(
    ("scope", "name", "subject", "command"),
    [
        ("fleet", "", "the fleet", "towline resume"),
        ("registry", "ghcr.io", "the registry ghcr.io", "towline resume --registry ghcr.io"),
        ("requester", "ci", "the requester ci", "towline resume --requester ci"),
        ("requester", "", "the requester ''", "towline resume --requester ''"),
        ("requester", "a b", "the requester a b", "towline resume --requester 'a b'"),
    ],
)
def test_a_pause_names_the_whole_command_that_ends_it(
    scope: str, name: str, subject: str, command: str
) -> None:
    found = explained(pull(**waits("paused")), layer(), pause=pause(scope, name))
    assert found.reason.cause == "paused"
    assert found.reason.sentence.startswith(f"{subject} has been paused since 2026-01-01 ")
    assert found.remedies == [f"run `{command}`"]


def test_a_missing_worker_is_one_of_layers_while_layers_are_missing() -> None:
    found = explained(pull(**waits("no_worker", "no worker consumes towline.layers")), layer())
    assert found.remedies == ["start a worker: `celery -A workers.app worker -Q towline.layers`"]


def test_on_the_embedded_stack_no_process_has_to_be_started_by_hand() -> None:
    logs = Path("/home/x/stack/log")
    found = explained(pull(**waits("no_worker")), layer(), reconciler=None, stack_logs=logs)
    worker, reconciler = found.remedies
    assert f"the stack starts its worker by itself, see {logs}/worker.log" in worker
    assert f"the stack starts its reconciler by itself, see {logs}/reconciler.log" in reconciler
    assert not any("`" in remedy for remedy in found.remedies)


def test_without_a_reconciler_one_has_to_be_started() -> None:
    alone = explained(pull(**waits("turn")), layer(), reconciler=None)
    assert alone.remedies[-1] == "no reconciler is running: start `towline reconcile`"


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("queued", "host:9 is resolving the reference"),
        ("resolving", "host:9 is resolving the reference"),
        ("linking", "host:9 is linking the image"),
    ],
)
def test_the_worker_that_resolves_or_links_is_named(state: str, sentence: str) -> None:
    found = explained(pull(state=state), layer(stored=True), step_owner="host:9")
    assert (found.reason.cause, found.reason.sentence) == (None, sentence)


def test_a_failed_pull_shows_its_error_and_how_to_retry() -> None:
    failed = pull(
        state="failed", error_message="The registry is away.", attempts=5, finished_at=NOW
    )
    found = explained(failed)
    assert found.reason.sentence == "The registry is away (5 attempts)"
    assert "towline retry p" in found.remedies[0]
    assert found.estimate is None


def test_a_complete_pull_takes_nothing() -> None:
    found = explained(pull(state="complete", finished_at=NOW), layer())
    assert (found.reason.sentence, found.since) == ("it is complete", NOW)
    assert (found.layers, found.remedies) == ((), [])


def test_layers_that_wait_for_different_reasons_are_explained_one_by_one() -> None:
    row = pull(**waits("backoff", "503"))
    found = explained(row, layer(**waits("backoff")), layer(**waits("space")))
    assert found.reason.sentence == "503"
    assert [layer.reason.cause for layer in found.layers] == ["backoff", "space"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.2, "a moment"), (59.6, "60 s"), (150, "2 min"), (3 * 3600 + 100, "3 h")],
)
def test_durations_are_rounded_to_the_precision_of_an_estimate(seconds: float, shown: str) -> None:
    assert shown_seconds(seconds) == shown


def test_the_time_since_which_a_state_lasts_is_shown_if_it_was_recorded() -> None:
    resolved = NOW - timedelta(seconds=9)
    assert explained(pull(resolved_at=resolved), layer()).since == resolved
    assert explained(QUEUED).since == QUEUED.created_at
    assert explained(pull(state="linking")).since is None

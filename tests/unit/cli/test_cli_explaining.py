"""Each cause has its sentence, its end, and what it would take."""

from datetime import timedelta

import pytest

from shared.catalog.chains import Holder, Place
from shared.catalog.fleet import FleetView
from tests.unit.cli.given_facts import (
    ALIVE,
    DIGEST,
    LATER,
    NOW,
    layer,
    pause,
    pull,
    story,
    waits,
)
from workers.examining.explaining import how_to_resume, shown_seconds
from workers.reconciling.backlog import Messages

QUEUED = pull(state="queued", admitted_at=None)
NO_WORKERS = FleetView(0, 0, NOW, "epoch")


def test_a_pull_in_the_line_tells_how_many_go_before_it_and_how_fast_the_line_moves() -> None:
    told = story(QUEUED, place=Place(30, 100), ended_lately=60)
    assert told.reason.cause == "turn"
    assert "30 pulls go before it" in told.reason.sentence
    assert "100 wait in all" in told.reason.sentence
    assert told.estimate is not None
    assert told.estimate.seconds == pytest.approx(300)


def test_a_line_that_does_not_move_has_no_estimate() -> None:
    told = story(QUEUED, place=Place(30, 100))
    assert told.estimate is not None
    assert told.estimate.seconds is None
    assert "no pull has ended" in told.estimate.sentence


def test_a_layer_that_is_being_fetched_tells_by_whom_and_when_it_may_be_there() -> None:
    one = layer(bytes_done=40, owner="host:77", leader="p")
    told = story(None, one, holders={DIGEST: ALIVE}, speeds={DIGEST: 6.0})
    (fetched,) = told.layers
    assert (told.reason.cause, fetched.reason.cause) == (None, None)
    assert fetched.reason.sentence == "being fetched by host:77"
    assert fetched.seconds_left == pytest.approx(10)
    assert told.estimate is not None
    assert told.estimate.seconds == pytest.approx(10)
    assert told.takes == []


def test_a_layer_that_another_pull_fetches_names_that_pull() -> None:
    leader = pull(id="leader", reference="registry.example/b:1", priority=7)
    holder = Holder("host:77", 20.0, 2, pull_id="leader", bytes_done=40)
    told = story(None, layer(), holders={DIGEST: holder}, leaders={"leader": leader})
    assert (told.reason.cause, told.reason.pull_id) == ("pull", "leader")
    assert "registry.example/b:1 (priority 7)" in told.reason.sentence
    assert "host:77" in told.reason.sentence


@pytest.mark.parametrize("cause", ["backoff", "rate_limit", "space", "turn"])
def test_what_a_layer_says_of_itself_is_told_with_its_end(cause: str) -> None:
    told = story(None, layer(**waits(cause, "the registry said 503."), failures=3))
    assert (told.reason.cause, told.reason.until) == (cause, LATER)
    assert "the registry said 503 (3 tries without progress)" in told.reason.sentence
    assert told.estimate is not None
    assert "not before 40 s from now" in told.estimate.sentence


def test_space_tells_what_the_volume_has_by_now() -> None:
    told = story(None, layer(**waits("space")), free_bytes=1234)
    assert "1,234 bytes free by now" in told.reason.sentence
    assert told.takes == ["free space on the volume, or enlarge it"]


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
    told = story(None, layer(), pause=pause(scope, name))
    assert told.reason.cause == "paused"
    assert told.takes == [f"`{command}`"]


def test_a_pause_holds_a_pull_in_the_line_too() -> None:
    told = story(QUEUED, pause=pause(), place=None)
    assert told.reason.cause == "paused"


def test_without_workers_the_queue_is_named_and_how_to_start_one() -> None:
    told = story(None, layer(), fleet=NO_WORKERS)
    assert told.reason.cause == "no_worker"
    assert told.takes == ["a worker: `celery -A workers.app worker -Q towline.layers`"]
    resolving = story(pull(state="resolving"), fleet=NO_WORKERS)
    assert "towline.pulls" in resolving.takes[0]


def test_a_message_in_the_queue_waits_for_a_slot() -> None:
    messages = Messages(layers={("p", str(DIGEST))})
    told = story(None, layer(), messages=messages)
    assert told.reason.cause == "turn"
    assert told.reason.sentence == "its message waits in towline.layers, behind which stand 4 slots"


def test_a_layer_that_comes_by_the_message_of_another_pull_names_that_pull() -> None:
    follows = {"cause": "pull", "until": LATER.isoformat(), "detail": "leader"}
    follower = layer(waiting_for=follows)
    digest = str(DIGEST)
    for sent, named in (
        ({("leader", digest), ("another", digest)}, "leader"),
        ({("heir", digest)}, "heir"),
    ):
        told = story(None, follower, messages=Messages(layers=sent))
        assert (told.reason.cause, told.reason.pull_id) == ("pull", named)
        assert f"message of the pull {named}" in told.reason.sentence
    assert story(None, follower, messages=None).reason.pull_id == "leader"
    assert story(None, follower, messages=Messages(layers={("p", digest)})).reason.cause == "turn"
    lost = story(None, follower, messages=Messages())
    assert (lost.reason.cause, lost.reason.pull_id) == ("turn", None)


def test_a_lost_message_is_sent_again_by_the_reconciler_or_needs_one() -> None:
    assert "no message is on its way" in story(None, layer()).reason.sentence
    assert story(None, layer()).takes == []
    alone = story(None, layer(), office=None)
    assert any("towline reconcile" in each for each in alone.takes)


def test_a_queue_that_cannot_be_asked_leaves_it_open() -> None:
    told = story(None, layer(), messages=None)
    assert "should wait in towline.layers" in told.reason.sentence


def test_a_worker_that_fell_silent_is_named() -> None:
    dead = Holder("host:77", -12.0, 2, pull_id="p", bytes_done=40)
    told = story(None, layer(), holders={DIGEST: dead})
    assert "host:77 fell silent 12 s ago" in told.reason.sentence


def test_whoever_resolves_or_links_is_named() -> None:
    step = Holder("host:9", 10.0, 3)
    assert "host:9 resolves" in story(pull(state="resolving"), step=step).reason.sentence
    whole = story(pull(state="linking"), layer(stored=True), step=step)
    assert "host:9 links" in whole.reason.sentence


def test_a_pull_that_failed_tells_its_error_and_how_to_try_again() -> None:
    failed = pull(
        state="failed", error_message="The registry is away.", attempts=5, finished_at=NOW
    )
    told = story(failed)
    assert told.reason.sentence == "The registry is away (5 attempts)"
    assert "towline retry p" in told.takes[0]
    assert told.estimate is None


def test_different_waits_are_told_layer_by_layer() -> None:
    told = story(None, layer(**waits("backoff")), layer(**waits("space")))
    assert told.reason.sentence == "its layers wait: backoff, space"
    assert [one.reason.cause for one in told.layers] == ["backoff", "space"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.2, "a moment"), (59.6, "60 s"), (150, "2 min"), (3 * 3600 + 100, "3 h")],
)
def test_durations_are_no_finer_than_they_are_known(seconds: float, shown: str) -> None:
    assert shown_seconds(seconds) == shown


def test_the_state_has_its_beginning_where_that_was_written_down() -> None:
    resolved = NOW - timedelta(seconds=9)
    assert story(pull(resolved_at=resolved), layer()).since == resolved
    assert story(QUEUED).since == QUEUED.created_at
    assert story(pull(state="linking")).since is None

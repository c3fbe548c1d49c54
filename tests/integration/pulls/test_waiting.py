"""Pulls that wait for space, for the end of a pause, for a more urgent pull, or for a slot."""

from pathlib import Path

import pytest

from shared.catalog.admission import pauses
from shared.catalog.fleet import fleet_slots
from shared.pulls.steps.outcomes import TryAgain
from tests.fakes.registry import FakeRegistry
from tests.integration.pulls.meeting import DIGEST, LAYER, Meeting
from tests.support.driver import Driver, driving


def cause(driver: Driver, pull_id: str) -> object:
    waiting_for = driver.row(pull_id).waiting_for
    assert waiting_for is None or (waiting_for["until"] and waiting_for["detail"])
    return waiting_for and waiting_for["cause"]


def test_a_pull_without_space_waits_and_fetches_nothing(
    migrated_url: str, volume_path: Path, first: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [LAYER])
    asked = {"reference": f"{registry.host}/a:1", "platform": "linux/amd64"}
    # Far more than there is: other processes use this disk as well, and may free some at any time.
    least = 2 * first.resources.volume.space().free_bytes
    with driving(migrated_url, volume_path, minimum_free_bytes=least) as crowded:
        assert crowded.plan("p", asked) is None
        assert (crowded.row("p").state, cause(crowded, "p")) == ("resolving", "space")
        assert registry.asked(str(DIGEST)) == []
    # With enough space, the pull is planned.
    plan = first.plan("p", asked)
    assert plan is not None
    assert list(plan.missing) == [DIGEST]
    assert cause(first, "p") is None


def test_a_layer_that_no_longer_fits_waits_without_a_failure(
    first: Driver, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    meeting = Meeting(first, registry, hold=None)  # type: ignore[arg-type]
    registry.put_image("a", "1", [LAYER])
    meeting.plan("p")
    full = type(first.resources.volume.space())(free_bytes=10, total_bytes=100)
    monkeypatch.setattr(type(first.resources.volume), "space", lambda _self: full)
    first.fetch_once("p", DIGEST)
    assert cause(first, "p") == "space"
    assert first.layers("p")[0].failures == 0
    monkeypatch.undo()
    first.fetch_once("p", DIGEST)
    assert str(DIGEST) in first.blobs()


@pytest.mark.parametrize("scope", ["fleet", "registry", "requester"])
def test_a_pause_stops_a_running_download_and_resume_continues_it(
    meeting: Meeting, second: Driver, scope: str
) -> None:
    meeting.begin(requested_by="team")
    name = {"fleet": "", "registry": meeting.registry.host, "requester": "team"}[scope]
    with second.resources.catalog.begin() as tx:
        assert pauses.pause(tx, scope, name)
    meeting.wait_for_leader()
    assert cause(second, "leader") == "paused"
    assert meeting.lease("owner") is None
    second.fetch_once("leader", DIGEST)
    assert str(DIGEST) not in second.blobs()
    with second.resources.catalog.begin() as tx:
        assert pauses.resume(tx, scope, name)
    pauses.wake(second.resources.catalog)
    assert cause(second, "leader") is None
    second.fetch_once("leader", DIGEST)
    receipt = second.link("leader")
    assert receipt is not None
    assert receipt["layers"][0]["source"] == "resumed"


def test_a_paused_fleet_admits_no_pull(first: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [LAYER])
    with first.resources.catalog.begin() as tx:
        pauses.pause(tx, "fleet")
    asked = {"reference": f"{registry.host}/a:1", "platform": "linux/amd64"}
    assert first.plan("p", asked) is None
    assert (first.row("p").state, first.row("p").admitted_at) == ("queued", None)


def test_a_layer_yields_once_to_a_more_urgent_layer_behind_it_in_the_queue(
    first: Driver, registry: FakeRegistry
) -> None:
    meeting = Meeting(first, registry, hold=None)  # type: ignore[arg-type]
    registry.put_image("a", "1", [LAYER])
    registry.put_image("urgent", "1", [b"urgent"])
    meeting.plan("p")
    meeting.plan("u", "urgent", priority=9)
    with pytest.raises(TryAgain):
        first.fetch_once("p", DIGEST)
    assert first.layers("p")[0].attempts == 0
    # Its message is now behind the urgent one, which may have been lost.
    first.fetch_once("p", DIGEST)
    assert str(DIGEST) in first.blobs()


def test_reserved_slots_are_for_urgent_pulls(first: Driver, registry: FakeRegistry) -> None:
    meeting = Meeting(first, registry, hold=None)  # type: ignore[arg-type]
    registry.put_image("a", "1", [LAYER])
    registry.put_image("urgent", "1", [LAYER])
    with first.resources.catalog.begin() as tx:
        fleet_slots.count_slots(tx, layer_slots=8, pull_slots=8)
    first.change(
        "INSERT INTO leases (registry, digest, owner, fence, expires_at, bytes_total)"
        " SELECT 'elsewhere', 'd' || n, 'busy', n, now() + interval '1 minute', 1"
        " FROM generate_series(1, 7) AS n"
    )
    meeting.plan("p")
    first.fetch_once("p", DIGEST)
    assert cause(first, "p") == "turn"
    meeting.plan("u", "urgent", priority=8)
    first.fetch_once("u", DIGEST)
    assert str(DIGEST) in first.blobs()

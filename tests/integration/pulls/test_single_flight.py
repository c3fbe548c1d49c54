"""One download for all pulls that want a layer, whatever happens to the pull it began for."""

import pytest

from shared import errors
from shared.catalog.database.catalog import Connection
from shared.catalog.layers import leases
from shared.oci.reference import Reference
from shared.pulls.cancelling import cancel_pull, miss_deadline
from shared.pulls.steps.attempt import Attempt
from shared.pulls.steps.leased_layer import LeasedLayer
from shared.pulls.steps.outcomes import TryAgain
from shared.pulls.steps.running import run_attempt
from tests.fakes.faults import CutAt, RefuseRange, Status
from tests.fakes.registry import FakeRegistry, digest_of
from tests.integration.pulls.meeting import DIGEST, LAYER, Meeting
from tests.support.driver import Driver
from tests.support.waiting import wait_until


def bytes_sent(registry: FakeRegistry) -> int:
    """Bytes of the layer that the registry has sent."""
    return sum(request.sent for request in registry.asked("blobs/" + str(DIGEST)))


def test_a_layer_that_another_pull_fetches_is_joined(meeting: Meeting, second: Driver) -> None:
    meeting.begin()
    meeting.plan("waiter", "b")
    second.fetch_once("waiter", DIGEST)
    (layer,) = second.layers("waiter")
    assert layer.waiting_for is not None
    assert (layer.waiting_for["cause"], layer.waiting_for["detail"]) == ("pull", "leader")
    assert layer.bytes_done == len(LAYER) // 2

    meeting.hold.set()
    meeting.wait_for_leader()
    assert sorted(meeting.driver.outbox.links) == ["leader", "waiter"]
    receipts = [second.link(pull_id) for pull_id in ("leader", "waiter")]
    fetched = [
        (receipt["layers"][0]["source"], receipt["bytes_fetched"])
        for receipt in receipts
        if receipt
    ]
    assert fetched == [("network", len(LAYER)), ("joined", 0)]
    assert bytes_sent(meeting.registry) == len(LAYER)


def test_a_task_that_is_delivered_twice_waits_for_the_lease_of_the_first(
    meeting: Meeting, second: Driver
) -> None:
    meeting.begin()
    with pytest.raises(TryAgain) as raised:
        second.fetch_once("leader", DIGEST)
    assert raised.value.at_most_once
    assert 0 < raised.value.delay_seconds <= 3.5


def test_the_download_of_a_cancelled_pull_stops_if_no_other_pull_wants_the_layer(
    meeting: Meeting,
) -> None:
    meeting.begin()
    cancel_pull(meeting.driver.resources.catalog, "leader")
    meeting.wait_for_leader()
    assert meeting.lease("owner") is None
    assert meeting.lease("bytes_done") == len(LAYER) // 2
    assert meeting.driver.row("leader").state == "cancelled"
    assert meeting.driver.outbox.layers == []


def leave_to_waiter(meeting: Meeting, second: Driver) -> None:
    """Cancel the leader in the middle of the layer, which `waiter` of another repository wants.

    Then the body of the leader's request ends early, and its task ends.
    """
    meeting.begin()
    meeting.plan("waiter", "b")
    second.fetch_once("waiter", DIGEST)
    cancel_pull(second.resources.catalog, "leader")
    wait_until(lambda: meeting.lease("pull_id") == "waiter")
    meeting.hold.set()
    meeting.wait_for_leader()


def test_the_download_of_a_cancelled_pull_goes_on_for_a_waiter(
    meeting: Meeting, second: Driver
) -> None:
    leave_to_waiter(meeting, second)
    assert meeting.driver.outbox.links == ["waiter"]
    receipt = second.link("waiter")
    assert receipt is not None
    assert receipt["bytes_fetched"] <= len(LAYER) // 2
    assert bytes_sent(meeting.registry) == len(LAYER)


@pytest.mark.parametrize(("status", "raised"), [(403, errors.Forbidden), (503, TryAgain)])
def test_a_waiter_does_not_fail_with_the_repository_of_the_cancelled_pull(
    status: int, raised: type[Exception], meeting: Meeting, second: Driver
) -> None:
    meeting.registry.fail(RefuseRange(path=f"v2/a/blobs/{DIGEST}", status=status))
    leave_to_waiter(meeting, second)
    # A 503 is retried by the driver, which then finds the pull cancelled.
    assert [type(error) for error in meeting.raised] == [raised][: status == 403]
    assert second.row("waiter").state == "fetching"
    assert second.sql("SELECT failures FROM pull_layers WHERE pull_id = 'waiter'") == [(0,)]
    assert [message.pull_id for message in meeting.driver.outbox.layers] == ["waiter"]
    assert meeting.driver.outbox.ended == []
    second.fetch_once("waiter", DIGEST)
    receipt = second.link("waiter")
    assert receipt is not None
    assert receipt["layers"][0]["source"] == "resumed"
    assert bytes_sent(meeting.registry) == len(LAYER)


@pytest.mark.parametrize(
    "error",
    [errors.VolumeFull("no room"), errors.HeldBack("slowly", None, 5.0)],
    ids=["full", "held"],
)
def test_a_waiter_that_took_over_a_download_gets_a_message_if_the_download_has_to_wait(
    meeting: Meeting, error: errors.TransientError
) -> None:
    driver = meeting.driver
    for pull_id in ("leader", "waiter"):
        meeting.plan(pull_id)
    cancel_pull(driver.resources.catalog, "leader")
    with driver.resources.catalog.begin() as tx:
        fence = lease(tx, meeting.registry.host, "waiter")
    # The heartbeat has passed the download on to the next pull that wants the layer.
    (layer,) = driver.layers("leader")
    reference = Reference.parse(driver.row("leader").reference)
    leased = LeasedLayer(reference, layer, fence, "waiter")

    def end() -> None:
        attempt = Attempt(driver.resources, "leader", driver.outbox)
        with run_attempt(attempt.with_lease(leased)):
            raise error

    with pytest.raises(TryAgain):
        end()
    assert [message.pull_id for message in driver.outbox.layers] == ["waiter"]
    waiting = "SELECT not_before, waiting_for FROM pull_layers WHERE pull_id = 'waiter'"
    assert driver.sql(waiting) == [(None, None)]


def lease(tx: Connection, registry: str, pull_id: str) -> int:
    taken = leases.take(
        tx,
        registry,
        DIGEST,
        owner="worker",
        pull_id=pull_id,
        bytes_total=len(LAYER),
        lease_seconds=30,
    )
    assert isinstance(taken, leases.Lease)
    return taken.fence


def test_a_missed_deadline_ends_a_pull_and_its_download(meeting: Meeting) -> None:
    meeting.begin(deadline_seconds=0.01)
    miss_deadline(meeting.driver.resources.catalog, "leader")
    meeting.wait_for_leader()
    row = meeting.driver.row("leader")
    assert (row.state, row.error_class) == ("failed", "DeadlineExceeded")
    assert meeting.lease("owner") is None


def test_a_pull_that_is_forbidden_to_read_hands_its_bytes_to_a_waiter(
    first: Driver, second: Driver, registry: FakeRegistry
) -> None:
    meeting = Meeting(first, registry, hold=None)  # type: ignore[arg-type]
    for repository in ("a", "b"):
        registry.put_image(repository, "1", [LAYER])
    registry.fail(
        CutAt(path=f"v2/a/blobs/{DIGEST}", byte=3_000_000, times=1),
        RefuseRange(path=f"v2/a/blobs/{DIGEST}", status=403),
    )
    meeting.plan("leader")
    meeting.plan("waiter", "b")
    with pytest.raises(errors.Forbidden):
        first.fetch_once("leader", DIGEST)
    (message,) = first.outbox.layers
    assert (message.pull_id, message.digest) == ("waiter", DIGEST)
    assert first.outbox.ended == ["leader"]
    second.fetch_once("waiter", DIGEST)
    receipt = second.link("waiter")
    assert receipt is not None
    assert receipt["layers"][0]["source"] == "resumed"
    assert receipt["bytes_fetched"] == len(LAYER) - 3_000_000


def test_a_failed_attempt_counts_for_the_waiters_of_the_same_repository(
    first: Driver, registry: FakeRegistry
) -> None:
    meeting = Meeting(first, registry, hold=None)  # type: ignore[arg-type]
    for repository in ("a", "b"):
        registry.put_image(repository, "1", [LAYER])
    registry.fail(Status(path=f"v2/a/blobs/{DIGEST}", status=503))
    for pull_id, repository in (("leader", "a"), ("same", "a"), ("other", "b")):
        meeting.plan(pull_id, repository)
    with pytest.raises(TryAgain):
        first.fetch_once("leader", DIGEST)
    failures = dict(first.sql("SELECT pull_id, failures FROM pull_layers"))
    assert failures == {"leader": 1, "same": 1, "other": 0}
    # The pull of the other repository need not wait for this backoff.
    assert [message.pull_id for message in first.outbox.layers] == ["other"]


def test_a_wrong_claim_of_a_size_fails_only_its_own_pull(
    meeting: Meeting, second: Driver, registry: FakeRegistry
) -> None:
    meeting.begin()
    digest = registry.put_image("liar", None, [LAYER])
    media_type, raw = registry.manifests["liar", digest]
    registry.put_manifest("liar", "1", raw.replace(b"4000000", b"4000001"), media_type)
    meeting.plan("liar", "liar")
    second.fetch_once("liar", DIGEST)
    meeting.hold.set()
    meeting.wait_for_leader()
    assert second.link("leader") is not None
    with pytest.raises(errors.InvalidManifest, match="promises 4000001 bytes"):
        second.link("liar")
    assert second.row("leader").state == "complete"
    assert digest_of(LAYER) in second.blobs()

"""Companions: small layers that are fetched together, and by their own tasks after a failure."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.catalog.fleet import fleet_slots
from shared.errors import BlobUnknown, InvalidManifest
from shared.oci.digest import Digest
from shared.pulls.cancelling import cancel_pull
from shared.pulls.layers import small_layer_fetch
from shared.pulls.steps.outcomes import TryAgain
from shared.volume.small_blobs import SmallBlobWriter
from tests.fakes.faults import Corrupt, CutAt, Fault, Spoil, Stall, Status
from tests.fakes.registry import FakeRegistry, digest_of
from tests.support.driver import Driver, driving
from tests.support.waiting import wait_until

BODIES = [bytes([number]) * 5_000 for number in range(8)]
LAYERS = [Digest.parse(digest_of(body)) for body in BODIES]
FIRST, NEXT = LAYERS[:2]
# In the order in which they are fetched.
COMPANIONS = sorted(LAYERS[-3:])


@pytest.fixture(autouse=True)
def planned(first: Driver, registry: FakeRegistry) -> None:
    """The pull `p` of eight small layers, and two slots: a task takes four layers."""
    registry.put_image("a", "1", BODIES)
    with first.resources.catalog.begin() as tx:
        fleet_slots.count_slots(tx, 2, 2)
    plan(first, registry, "p")


def plan(driver: Driver, registry: FakeRegistry, pull_id: str, tag: str = "1") -> None:
    asked = {"reference": f"{registry.host}/a:{tag}", "platform": "linux/amd64"}
    assert driver.plan(pull_id, asked) is not None


def fetch(driver: Driver, digest: Digest, pull_id: str = "p") -> None:
    """Run the task of a layer once."""
    driver.fetch_once(pull_id, digest)


def stored(driver: Driver) -> set[Digest]:
    found = driver.sql(
        "SELECT digest FROM blobs JOIN pull_layers USING (digest) WHERE stored_at IS NOT NULL"
    )
    return {Digest.parse(digest) for (digest,) in found}


def left_to_do(driver: Driver) -> list[Digest]:
    """The layers whose messages are sent again."""
    return [message.digest for message in driver.outbox.layers]


def test_a_task_fetches_its_share_of_the_small_layers(first: Driver) -> None:
    fetch(first, FIRST)
    assert stored(first) == {FIRST, *COMPANIONS}


def test_the_tasks_of_fetched_companions_request_nothing(
    first: Driver, registry: FakeRegistry
) -> None:
    fetch(first, FIRST)
    asked = len(registry.requests)
    for digest in COMPANIONS:
        fetch(first, digest)
    assert len(registry.requests) == asked


@pytest.fixture
def fetched(first: Driver) -> Driver:
    """All eight layers are fetched, by two tasks."""
    fetch(first, FIRST)
    fetch(first, NEXT)
    return first


def test_two_tasks_fetch_all_layers_and_request_each_once(
    fetched: Driver, registry: FakeRegistry
) -> None:
    assert [fetched.blob(str(digest)).read_bytes() for digest in LAYERS] == BODIES
    assert [len(registry.asked(f"blobs/{digest}")) for digest in LAYERS] == [1] * 8


def test_the_task_that_fetches_the_last_layers_links_the_pull(fetched: Driver) -> None:
    # Without another message.
    assert (fetched.outbox.links, fetched.outbox.ended) == ([], ["p"])
    assert fetched.link("p") == fetched.row("p").receipt


def test_the_receipt_counts_companions_as_it_counts_other_layers(fetched: Driver) -> None:
    receipt = fetched.link("p")
    assert receipt is not None
    assert receipt["bytes_fetched"] == 40_000
    counts = {(one["source"], one["bytes_fetched"], one["attempts"]) for one in receipt["layers"]}
    assert counts == {("network", 5_000, 1)}


def test_no_ingest_and_no_lease_is_left(fetched: Driver) -> None:
    assert list((fetched.volume / "ingest" / "sha256").iterdir()) == []
    assert fetched.sql("SELECT * FROM leases") == []


def in_a_thread(driver: Driver, digest: Digest) -> threading.Thread:
    thread = threading.Thread(target=lambda: fetch(driver, digest))
    thread.start()
    return thread


def lease_of(driver: Driver, digest: Digest) -> list[tuple[object, ...]]:
    return driver.sql(f"SELECT is_companion, owner IS NULL FROM leases WHERE digest = '{digest}'")


def attempts(driver: Driver, pull_id: str = "p") -> dict[Digest, int]:
    return {layer.digest: layer.attempts for layer in driver.layers(pull_id)}


def assert_set(event: threading.Event) -> None:
    assert event.wait(timeout=20)


@pytest.fixture
def held(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The last companion is answered only once this is set, and its task waits for it."""
    monkeypatch.setattr(small_layer_fetch, "_PATIENCE_SECONDS", 30.0)
    hold = threading.Event()
    registry.fail(Spoil(f"blobs/{COMPANIONS[-1]}", change=lambda *_: assert_set(hold)))
    yield hold
    hold.set()


def test_the_task_of_a_companion_in_another_process_ends_at_once(
    first: Driver, second: Driver, registry: FakeRegistry, held: threading.Event
) -> None:
    leader = in_a_thread(first, FIRST)
    wait_until(lambda: lease_of(second, COMPANIONS[-1]))
    assert lease_of(second, COMPANIONS[-1]) == [(True, False)]
    fetch(second, COMPANIONS[-1])
    held.set()
    leader.join(timeout=20)
    assert stored(second) == {FIRST, *COMPANIONS}
    assert [attempts(second)[digest] for digest in COMPANIONS] == [1, 1, 1]
    assert len(registry.asked(f"blobs/{COMPANIONS[-1]}")) == 1


def test_another_pull_waits_for_a_companion_and_gets_it(
    first: Driver, second: Driver, registry: FakeRegistry, held: threading.Event
) -> None:
    plan(second, registry, "waiter")
    leader = in_a_thread(first, FIRST)
    wait_until(lambda: lease_of(second, COMPANIONS[-1]))
    fetch(second, COMPANIONS[0], "waiter")
    waits = {layer.digest: layer.waiting_for for layer in second.layers("waiter")}
    assert waits[COMPANIONS[0]] is not None
    held.set()
    leader.join(timeout=20)
    sources = {layer.digest: layer.source for layer in second.layers("waiter")}
    assert [sources[digest] for digest in (FIRST, *COMPANIONS)] == ["joined"] * 4
    # It fetches the other layers, which the first pull has not begun.
    for digest in LAYERS:
        fetch(second, digest, "waiter")
    # It is linked at once, and completes the other pull of the same image.
    assert (second.outbox.links, second.outbox.ended) == ([], ["waiter", "p"])


@pytest.mark.parametrize("fault", [Status, CutAt, Corrupt])
def test_a_companion_that_fails_is_left_to_its_own_task(
    first: Driver, registry: FakeRegistry, fault: type[Fault]
) -> None:
    registry.fail(fault(path=f"blobs/{COMPANIONS[1]}", times=1))
    fetch(first, FIRST)
    assert stored(first) == {FIRST, COMPANIONS[0]}
    assert left_to_do(first) == COMPANIONS[1:]
    assert [attempts(first)[digest] for digest in COMPANIONS] == [1, 0, 0]
    assert [lease_of(first, digest) for digest in COMPANIONS[1:]] == [[(True, True)]] * 2
    for digest in [*COMPANIONS[1:], NEXT]:
        first.fetch("p", digest)
    assert stored(first) == set(LAYERS)
    assert first.link("p") is not None
    assert first.sql("SELECT sum(failures) FROM pull_layers") == [(0,)]


def test_a_companion_that_is_unknown_fails_the_pull_in_its_own_task(
    first: Driver, registry: FakeRegistry
) -> None:
    registry.fail(Status(path=f"blobs/{COMPANIONS[0]}", status=404))
    fetch(first, FIRST)
    assert stored(first) == {FIRST}
    assert first.row("p").state == "fetching"
    assert COMPANIONS[0] in left_to_do(first)
    with pytest.raises(BlobUnknown):
        fetch(first, COMPANIONS[0])
    assert first.row("p").state == "failed"


def test_a_layer_that_fails_is_retried_as_usual_and_its_companions_are_given_back(
    first: Driver, registry: FakeRegistry
) -> None:
    # The first failure meets the read of the whole layer, the second one the download engine.
    registry.fail(Status(path=f"blobs/{FIRST}", times=2))
    with pytest.raises(TryAgain):
        fetch(first, FIRST)
    assert left_to_do(first) == COMPANIONS
    assert [attempts(first)[digest] for digest in (FIRST, *COMPANIONS)] == [1, 0, 0, 0]
    first.fetch("p", FIRST)
    assert FIRST in stored(first)


def test_a_companion_that_takes_too_long_is_given_back(
    first: Driver, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = threading.Event()
    registry.fail(Stall(path=f"blobs/{COMPANIONS[1]}", mute=True, times=1, until=hold))
    monkeypatch.setattr(small_layer_fetch, "_PATIENCE_SECONDS", 0.5)
    try:
        fetch(first, FIRST)
        assert stored(first) == {FIRST, COMPANIONS[0]}
        assert left_to_do(first) == COMPANIONS[1:]
        # No task waits for the stalled layer, and later layers are fetched alone.
        first.fetch("p", COMPANIONS[1])
        fetch(first, NEXT)
        assert stored(first) == {FIRST, NEXT, *COMPANIONS[:2]}
    finally:
        hold.set()


def test_a_worker_that_has_to_stop_gives_its_companions_back(
    first: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(SmallBlobWriter, "fsync", stop)
    with pytest.raises(SystemExit):
        fetch(first, FIRST)
    assert first.sql("SELECT count(*) FROM leases WHERE owner IS NOT NULL") == [(0,)]
    assert left_to_do(first) == COMPANIONS
    monkeypatch.undo()
    for digest in LAYERS:
        first.fetch("p", digest)
    assert stored(first) == set(LAYERS)
    assert first.link("p") is not None


def test_a_pull_that_is_cancelled_begins_no_further_layers(first: Driver) -> None:
    fetch(first, FIRST)
    cancel_pull(first.resources.catalog, "p")
    fetch(first, NEXT)
    assert stored(first) == {FIRST, *COMPANIONS}


def test_a_wrong_diff_id_of_a_companion_fails_only_the_pull_that_claims_it(
    migrated_url: str, volume_path: Path, registry: FakeRegistry, first: Driver
) -> None:
    claims = [str(digest) for digest in LAYERS]
    claims[LAYERS.index(COMPANIONS[0])] = digest_of(b"another tar")
    config = {"rootfs": {"type": "layers", "diff_ids": claims}}
    registry.put_image("a", "lie", BODIES, config=config)
    with driving(
        migrated_url, volume_path, minimum_free_bytes=0, verify_diff_ids=True
    ) as verifying:
        plan(verifying, registry, "liar", "lie")
        with pytest.raises(InvalidManifest, match=str(COMPANIONS[0])):
            fetch(verifying, FIRST, "liar")
        assert verifying.row("liar").state == "failed"
    # The stored layers keep their computed diff_ids, and the other pull uses them.
    assert first.sql("SELECT count(*) FROM layers WHERE diff_id = digest") == [(4,)]
    for digest in LAYERS:
        fetch(first, digest)
    assert first.link("p") is not None

"""Another service sends a pull by name and gets its receipt or its failure."""

import os
from threading import Event
from typing import Any

import pytest

from tests.acceptance.fleet import Fleet
from tests.fakes.faults import Corrupt, CutAt, Stall, Status
from tests.fakes.registry import FakeRegistry, digest_of
from tests.support.waiting import wait_until

LAYERS = [os.urandom(300_000), b"small", os.urandom(2_000_000)]


@pytest.mark.parametrize("pool", ["threads", "prefork"])
@pytest.mark.parametrize("command", ["celery -A workers.app worker", "workers.cli worker"])
def test_a_plain_client_gets_the_receipt(
    fleet: Fleet, registry: FakeRegistry, pool: str, command: str
) -> None:
    manifest = registry.put_image("team/app", "1", LAYERS)
    fleet.worker_command = command
    fleet.start_worker(pool)
    with fleet.client() as client:
        reference = f"{registry.host}/team/app:1"
        pull = client.pull(reference=reference, platform="linux/amd64", labels={"job": "7"})
        receipt = pull.get(timeout=30)
        again = client.pull(task_id=pull.id, reference="ignored", nonsense=1).get(timeout=30)
    assert receipt["pull_id"] == pull.id
    assert receipt["manifest"] == manifest
    assert [layer["digest"] for layer in receipt["layers"]] == [digest_of(raw) for raw in LAYERS]
    assert receipt["bytes_fetched"] == sum(map(len, LAYERS))
    assert again == receipt


@pytest.fixture
def lasting_fleet(fleet: Fleet) -> Fleet:
    fleet.settings = {"TOWLINE_ATTEMPTS": "3", "TOWLINE_STALL_TIMEOUT_SECONDS": "1"}
    fleet.start_worker()
    return fleet


def test_every_failure_reaches_the_client_with_its_class_and_one_sentence(
    lasting_fleet: Fleet, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", LAYERS[:1])
    for broken in ("corrupt", "cut", "refused"):
        registry.put_image(broken, "1", [broken.encode() * 100])
    corrupt, cut = (digest_of(name * 100) for name in (b"corrupt", b"cut"))
    registry.fail(
        Corrupt(path=corrupt), CutAt(path=cut, byte=50), Status(path="/refused/", status=403)
    )
    with FakeRegistry() as gone:
        unreachable = gone.host
    here = registry.host
    expected: list[tuple[dict[str, Any], str]] = [
        ({"reference": "NOT a reference"}, "InvalidReference"),
        ({"reference": f"{here}/a:1", "tag": "1"}, "InvalidArgument"),
        ({"reference": f"{here}/a:1", "self": 1}, "InvalidArgument"),
        ({"reference": f"{here}/a:none"}, "ManifestUnknown"),
        ({"reference": f"{here}/a:1", "platform": "linux/s390x"}, "PlatformNotFound"),
        ({"reference": f"{here}/refused:1"}, "Forbidden"),
        ({"reference": f"{here}/corrupt:1"}, "DigestMismatch"),
        ({"reference": f"{here}/cut:1"}, "BlobTruncated"),
        ({"reference": f"{unreachable}/a:1"}, "RegistryUnavailable"),
    ]
    with lasting_fleet.client() as client:
        pulls = [client.pull(**{"platform": "linux/amd64"} | kwargs) for kwargs, _ in expected]
        for pull, (_, kind) in zip(pulls, expected, strict=True):
            error = pull.get(timeout=60, propagate=False)
            assert type(error).__name__ == kind, error
            assert pull.state == "FAILURE"
            assert str(error.args[0]).endswith(".")
    stored = {path.name for path in (lasting_fleet.volume / "blobs").rglob("*") if path.is_file()}
    assert corrupt.partition(":")[2] not in stored
    assert cut.partition(":")[2] not in stored


@pytest.mark.parametrize("pull_id", ["x" * 156, "nul\0"])
def test_an_id_that_no_row_can_hold_is_answered_too(fleet: Fleet, pull_id: str) -> None:
    fleet.start_worker()
    with fleet.client() as client:
        pull = client.pull(task_id=pull_id, reference="a")
        assert type(pull.get(timeout=30, propagate=False)).__name__ == "InvalidArgument"


def test_a_worker_that_does_not_know_the_schema_loses_no_pull(
    fleet: Fleet, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [b"small"])
    worker = fleet.start_worker()
    ((known,),) = fleet.sql("SELECT version_num FROM alembic_version")
    fleet.sql("UPDATE alembic_version SET version_num = '9999' RETURNING 1")
    with fleet.client() as client:
        # The worker's first task checks the schema again.
        pull = client.pull(reference=f"{registry.host}/a:1", platform="linux/amd64")
        wait_until(lambda: "9999" in worker.log.read_text(), timeout=20)
        fleet.sql(f"UPDATE alembic_version SET version_num = '{known}' RETURNING 1")
        assert pull.get(timeout=30)["pull_id"] == pull.id


def test_one_failed_layer_fails_the_pull_before_the_other_layers_end(
    fleet: Fleet, registry: FakeRegistry
) -> None:
    slow = Event()
    registry.put_image("a", "1", LAYERS)
    registry.fail(
        Status(path=digest_of(b"small"), status=404),
        Stall(path=digest_of(LAYERS[2]), after_bytes=1000, until=slow),
    )
    fleet.start_worker()
    with fleet.client() as client:
        pull = client.pull(reference=f"{registry.host}/a:1", platform="linux/amd64")
        error = pull.get(timeout=20, propagate=False)
    slow.set()
    assert type(error).__name__ == "BlobUnknown"

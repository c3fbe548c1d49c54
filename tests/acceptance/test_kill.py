"""A worker that is killed during a layer loses less than one chunk of it."""

import os
import threading
from uuid import uuid4

import pytest

from shared.settings import Settings
from tests.acceptance.fleet import Fleet
from tests.fakes.faults import Stall
from tests.fakes.registry import FakeRegistry, digest_of
from tests.support.waiting import wait_until

MIB = 1024 * 1024
LAYER = os.urandom(24 * MIB)


@pytest.mark.parametrize("kills", [1, 3])
def test_a_killed_download_is_continued_by_range_when_the_same_id_is_sent_again(
    fleet: Fleet, registry: FakeRegistry, kills: int
) -> None:
    # With one connection only: tests/integration/download/test_parallel.py has several.
    fleet.settings |= {"TOWLINE_LEASE_SECONDS": "2", "TOWLINE_LAYER_CONNECTIONS": "1"}
    registry.put_image("a", "1", [LAYER])
    digest = digest_of(LAYER)
    pull_id = str(uuid4())
    asked = {"reference": f"{registry.host}/a:1", "platform": "linux/amd64"}
    with fleet.client() as client:
        for _ in range(kills):
            before = _bytes_on_disk(fleet, digest)
            hold = threading.Event()
            # The registry stops sending after 6 MiB more, and the worker is killed there.
            registry.fail(Stall(path=digest, after_bytes=6 * MIB, times=1, until=hold))
            worker = fleet.start_worker()
            pull = client.pull(task_id=pull_id, **asked)
            wait_until(lambda there=before: _bytes_on_disk(fleet, digest) >= there + 3 * MIB)
            worker.kill()
            hold.set()
        fleet.start_worker()
        receipt = client.pull(task_id=pull_id, **asked).get(timeout=60)
        assert pull.get(timeout=5) == receipt

    requests = registry.asked(digest)
    assert requests[0].range is None
    last = len(LAYER) - 1
    assert all(request.range and request.range.endswith(f"-{last}") for request in requests[1:])
    sent = sum(request.sent for request in requests)
    assert sent - len(LAYER) < kills * Settings.read().chunk_bytes / 4
    blob = fleet.volume / "blobs" / "sha256" / digest.partition(":")[2]
    assert blob.read_bytes() == LAYER
    assert receipt["layers"][0]["source"] == "resumed"
    assert not any(path.is_file() for path in (fleet.volume / "ingest").rglob("*"))


def _bytes_on_disk(fleet: Fleet, digest: str) -> int:
    ingests = fleet.volume / "ingest" / "sha256" / digest.partition(":")[2]
    return max((path.stat().st_size for path in ingests.glob("*[0-9]")), default=0)

"""A worker on a node of its own: a mount of the volume and limits that no other worker has."""

import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.processes import tree
from tests.acceptance.fleet import Worker
from tests.services import missing
from tests.waiting import wait_until

# What a process may still take after it was limited: less than a thread's stack.
_SPARE_BYTES = 15 * 2**19
# Without any Celery itself ends the worker at its next connection.
_SPARE_FILES = 12


@dataclass(frozen=True)
class SeparateNode:
    """A node, and its worker's name in Celery. Each trouble ends with `heal()`."""

    fleet: FaultyFleet
    worker: Worker
    name: str

    def make_read_only(self) -> None:
        """Its mount of the volume takes no writes any more."""
        # What is open for writing at this moment would refuse it.
        wait_until(lambda: self._mount("-o", "remount,bind,ro"))

    def lose_volume(self) -> None:
        """Another filesystem, an empty one, is mounted where its volume was."""
        assert self._mount("-t", "tmpfs", "tmpfs")

    def lose_threads(self) -> None:
        """Its processes have no address space left for one more thread."""
        for pid in tree(self.worker.process.pid):
            limit = _least_size_bytes(pid) + _SPARE_BYTES
            resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

    def lose_descriptors(self, *pids: int) -> None:
        """Its processes, or these, may open a few more files, but not what a layer takes."""
        for pid in pids or tree(self.worker.process.pid):
            highest = max(int(one.name) for one in Path(f"/proc/{pid}/fd").iterdir())
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + _SPARE_FILES, 4096))

    def heal(self) -> None:
        """Whatever it has lost is there again."""
        for pid in tree(self.worker.process.pid):
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(pid, resource.RLIMIT_AS, unlimited)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (4096, 4096))
        if b"tmpfs" in self._run("findmnt", "-n", "-o", "FSTYPE", str(self.fleet.volume)).stdout:
            self._run("umount", "--lazy", str(self.fleet.volume))
        assert self._mount("-o", "remount,bind,rw")

    def state(self) -> tuple[str, str | None] | None:
        """State and reason of its row."""
        rows = self.fleet.sql("SELECT state, reason FROM nodes WHERE name = %s", self.name)
        return rows[0] if rows else None

    def is_sick(self) -> bool:
        """Whether its row says so."""
        return (self.state() or ("", None))[0] == "sick"

    def queues(self) -> list[str]:
        """What it consumes, as Celery tells."""
        with self.fleet.client() as client:
            told = client.app.control.inspect([self.name], timeout=3).active_queues() or {}
        return [queue["name"] for queue in told.get(self.name, [])]

    def _mount(self, *options: str) -> bool:
        return self._run("mount", *options, str(self.fleet.volume)).returncode == 0

    def _run(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        inside = ["nsenter", f"--target={self.worker.process.pid}", "--mount", "--"]
        return subprocess.run([*inside, *command], capture_output=True, check=False)


def start_separately(fleet: FaultyFleet, pool: str = "threads", **environment: str) -> SeparateNode:
    """A worker in a mount namespace of its own. Skips the test, or fails it in CI, without root."""
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        missing(f"A mount namespace cannot be made: {probe.stderr.decode().strip()}")
    bound = f'mount --bind "{fleet.volume}" "{fleet.volume}" && exec "$@"'
    fleet.prefix = ("unshare", "--mount", "sh", "-c", bound, "sh")
    name = f"worker-{len(fleet.workers)}@test"
    try:
        worker = fleet.launch_worker(pool, **environment)
    finally:
        fleet.prefix = ()
    wait_until(lambda: worker.ready, timeout=90)
    return SeparateNode(fleet, worker, name)


def _least_size_bytes(pid: int) -> int:
    """Address space of a process, its least of a second: at some moments its own look at the node
    has a dozen threads more.
    """
    sizes = []
    for _ in range(20):
        sizes.append(int(Path(f"/proc/{pid}/statm").read_text().split()[0]))
        time.sleep(0.05)
    return min(sizes) * resource.getpagesize()

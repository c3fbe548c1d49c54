"""A worker that is a node by itself: it has its own mount of the volume and its own limits."""

import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.processes import tree
from tests.acceptance.fleet import Worker
from tests.support.services import missing
from tests.support.waiting import wait_until

# Address space that a process may still take after it was limited: less than a thread's stack.
_SPARE_BYTES = 15 * 2**19
# Files that it may still open. Without any, Celery itself would end the worker at its next
# connection.
_SPARE_FILES = 12


@dataclass(frozen=True)
class SeparateNode:
    """A node. `name`: of its worker in Celery. `heal()` ends every trouble."""

    fleet: FaultyFleet
    worker: Worker
    name: str

    def make_read_only(self) -> None:
        """Make its mount of the volume read-only."""
        # Fails while a file is open for writing.
        wait_until(lambda: self._mount("-o", "remount,bind,ro"))

    def lose_volume(self) -> None:
        """Mount an empty filesystem over its volume."""
        assert self._mount("-t", "tmpfs", "tmpfs")

    def lose_threads(self) -> None:
        """Leave its processes too little address space for one more thread."""
        for pid in tree(self.worker.process.pid):
            limit = _least_size_bytes(pid) + _SPARE_BYTES
            resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

    def lose_descriptors(self, *pids: int) -> None:
        """Let its processes, or only these, open fewer files than a layer takes."""
        for pid in pids or tree(self.worker.process.pid):
            highest = max(int(file.name) for file in Path(f"/proc/{pid}/fd").iterdir())
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + _SPARE_FILES, 4096))

    def heal(self) -> None:
        """Give it back whatever it has lost."""
        for pid in tree(self.worker.process.pid):
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(pid, resource.RLIMIT_AS, unlimited)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (4096, 4096))
        if b"tmpfs" in self._run("findmnt", "-n", "-o", "FSTYPE", str(self.fleet.volume)).stdout:
            self._run("umount", "--lazy", str(self.fleet.volume))
        assert self._mount("-o", "remount,bind,rw")

    def state(self) -> tuple[str, str | None] | None:
        """State and reason in its row; None without a row."""
        rows = self.fleet.sql("SELECT state, reason FROM nodes WHERE name = %s", self.name)
        return rows[0] if rows else None

    def is_sick(self) -> bool:
        """Whether its row says that it is sick."""
        return (self.state() or ("", None))[0] == "sick"

    def queues(self) -> list[str]:
        """The queues that it consumes, according to Celery."""
        with self.fleet.client() as client:
            active = client.app.control.inspect([self.name], timeout=3).active_queues() or {}
        return [queue["name"] for queue in active.get(self.name, [])]

    def _mount(self, *options: str) -> bool:
        return self._run("mount", *options, str(self.fleet.volume)).returncode == 0

    def _run(self, *command: str) -> subprocess.CompletedProcess[bytes]:
        inside = ["nsenter", f"--target={self.worker.process.pid}", "--mount", "--"]
        return subprocess.run([*inside, *command], capture_output=True, check=False)


def start_separately(fleet: FaultyFleet, pool: str = "threads", **environment: str) -> SeparateNode:
    """Start a worker in a new mount namespace. Without root, skips the test, or fails it in CI."""
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        missing(f"A mount namespace cannot be created: {probe.stderr.decode().strip()}")
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
    """The smallest address space of a process within a second: while it probes its node, it has a
    dozen more threads.
    """
    sizes = []
    for _ in range(20):
        sizes.append(int(Path(f"/proc/{pid}/statm").read_text().split()[0]))
        time.sleep(0.05)
    return min(sizes) * resource.getpagesize()

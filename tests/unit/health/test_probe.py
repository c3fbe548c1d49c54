"""The probe: what a process needs to work, and the sentence that says what it lacks."""

import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import VolumeFull, VolumeUnavailable
from workers.health.probe import Probe


def well() -> None:
    """A volume that answers."""


def test_a_process_that_lacks_nothing_is_well_and_leaves_nothing_behind(tmp_path: Path) -> None:
    threads, descriptors = threading.active_count(), os.listdir("/proc/self/fd")
    assert Probe().trouble(well) is None
    assert threading.active_count() == threads
    assert os.listdir("/proc/self/fd") == descriptors


@pytest.fixture
def release() -> Iterator[threading.Event]:
    release = threading.Event()
    yield release
    release.set()


def test_a_hanging_volume_is_reported_and_checked_by_one_thread_only(
    release: threading.Event,
) -> None:
    probe, asked = Probe(longest_seconds=0.05), []

    def hang() -> None:
        asked.append(1)
        release.wait()

    trouble = probe.trouble(hang)
    assert trouble is not None
    assert "has not answered" in trouble
    probe._found_at = float("-inf")
    assert probe.trouble(hang) == trouble
    assert asked == [1]


def test_a_missing_volume_is_trouble_but_a_full_volume_is_not() -> None:
    def gone() -> None:
        raise VolumeUnavailable("Another volume is mounted here.")

    def full() -> None:
        raise VolumeFull("No inode is left.")

    assert Probe().trouble(gone) == "Another volume is mounted here."
    assert Probe().trouble(full) is None


def test_a_lack_of_memory_or_threads_during_the_volume_check_is_trouble(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise MemoryError

    trouble = Probe().trouble(fail)
    assert trouble is not None
    assert "no memory" in trouble

    start = threading.Thread.start

    def start_no_more(self: threading.Thread) -> None:
        if self.name == "look-at-volume":
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", start_no_more)
    trouble = Probe().trouble(well)
    assert trouble is not None
    assert "no more threads" in trouble


def test_steps_that_fail_at_the_same_time_share_one_probe() -> None:
    probe, looks = Probe(), []
    for _ in range(8):
        probe.trouble(lambda: looks.append(1))
    assert looks == [1]


def test_a_temporary_folder_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/proc/nowhere")
    trouble = Probe().trouble(well)
    assert trouble is not None
    assert "/proc/nowhere" in trouble


def test_a_node_without_a_temporary_folder_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", none)
    assert Probe().trouble(well) is None


LIMITED = """
import resource, sys, threading
from workers.health.probe import Probe
kind, spare = getattr(resource, sys.argv[1]), int(sys.argv[2])
{use}
resource.setrlimit(kind, (used + spare, resource.getrlimit(kind)[1]))
trouble = Probe().trouble(lambda: None)
resource.setrlimit(kind, (resource.getrlimit(kind)[1],) * 2)
print(trouble)
"""
USE = {
    "RLIMIT_NOFILE": "import os; used = len(os.listdir('/proc/self/fd'))",
    "RLIMIT_AS": "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()",
}


@pytest.mark.parametrize(
    ("kind", "spare", "sentence"),
    [
        ("RLIMIT_NOFILE", 8, "no file descriptors left"),
        ("RLIMIT_NOFILE", 100, "None"),
        # The stack of a thread needs address space.
        ("RLIMIT_AS", 16 * 2**20, "can start no more threads"),
        ("RLIMIT_AS", 2**30, "None"),
    ],
)
def test_a_resource_limit_that_is_reached_is_named(kind: str, spare: int, sentence: str) -> None:
    assert getattr(resource, kind) is not None
    done = subprocess.run(
        [sys.executable, "-c", LIMITED.format(use=USE[kind]), kind, str(spare)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert sentence in done.stdout

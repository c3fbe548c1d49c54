"""What a process takes to work, and how a lack of it is told."""

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


def test_a_volume_that_does_not_answer_is_told_and_asked_by_one_thread_only(
    release: threading.Event,
) -> None:
    probe, asked = Probe(longest_seconds=0.05), []

    def hang() -> None:
        asked.append(1)
        release.wait()

    told = probe.trouble(hang)
    assert told is not None
    assert "has not answered" in told
    probe._found_at = float("-inf")
    assert probe.trouble(hang) == told
    assert asked == [1]


def test_a_volume_that_is_not_there_is_trouble_and_a_full_one_is_none() -> None:
    def gone() -> None:
        raise VolumeUnavailable("Another volume is mounted here.")

    def full() -> None:
        raise VolumeFull("No inode is left.")

    assert Probe().trouble(gone) == "Another volume is mounted here."
    assert Probe().trouble(full) is None


def test_a_lack_that_the_look_at_the_volume_meets_is_trouble_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise MemoryError

    told = Probe().trouble(fail)
    assert told is not None
    assert "no memory" in told

    start = threading.Thread.start

    def start_no_more(self: threading.Thread) -> None:
        if self.name == "look-at-volume":
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", start_no_more)
    told = Probe().trouble(well)
    assert told is not None
    assert "no more threads" in told


def test_steps_that_fail_at_one_moment_share_one_look() -> None:
    probe, looks = Probe(), []
    for _ in range(8):
        probe.trouble(lambda: looks.append(1))
    assert looks == [1]


def test_a_disk_that_takes_no_temporary_file_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/proc/nowhere")
    told = Probe().trouble(well)
    assert told is not None
    assert "/proc/nowhere" in told


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
told = Probe().trouble(lambda: None)
resource.setrlimit(kind, (resource.getrlimit(kind)[1],) * 2)
print(told)
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
        # A thread takes its stack of the address space.
        ("RLIMIT_AS", 16 * 2**20, "can start no more threads"),
        ("RLIMIT_AS", 2**30, "None"),
    ],
)
def test_a_limit_that_is_reached_is_named(kind: str, spare: int, sentence: str) -> None:
    assert getattr(resource, kind) is not None
    done = subprocess.run(
        [sys.executable, "-c", LIMITED.format(use=USE[kind]), kind, str(spare)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert sentence in done.stdout

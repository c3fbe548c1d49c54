"""The probe: can this process do the work of a layer, here and now?

An exception does not say whether the node is to blame. A volume that is read-only here may work on
other nodes, and a thread that could not be started may start a moment later. So after a failed step
the probe decides, not the exception.
"""

import errno
import os
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

from shared.errors import VolumeFull, VolumeUnavailable

# What the work of one layer needs, with a margin.
_THREADS = 12
_DESCRIPTORS = 24
_MEMORY_BYTES = 4 * 1024 * 1024
_TEMPORARY_BYTES = 4096

_NO_THREAD = "This node can start no more threads: raise its limit of processes or tasks."
_NO_MEMORY = "This node has no memory left: give it more, or fewer slots."

# A volume that does not answer for this long hangs.
_LONGEST_SECONDS = 10.0
# Several steps may fail at the same time. They share one answer for this long.
_ANSWER_SECONDS = 1.0


class Probe:
    """Probes for all threads of a process: one at a time, with an answer that is kept for 1 s."""

    def __init__(self, longest_seconds: float = _LONGEST_SECONDS) -> None:
        self._longest_seconds = longest_seconds
        self._lock = threading.Lock()
        self._found: str | None = None
        self._found_at = float("-inf")
        self._looking: threading.Thread | None = None

    def trouble(self, look_at_volume: Callable[[], object]) -> str | None:
        """One sentence that says why this node cannot work; None if it can.

        `look_at_volume` raises VolumeUnavailable if the volume cannot be used from this node. A
        full volume is not the node's trouble.
        """
        with self._lock:
            if time.monotonic() - self._found_at > _ANSWER_SECONDS:
                self._found = process_trouble() or self._trouble_of_volume(look_at_volume)
                self._found_at = time.monotonic()
            return self._found

    def _trouble_of_volume(self, look: Callable[[], object]) -> str | None:
        """Look in a thread, because a look at a hanging volume never returns."""
        if self._looking is not None and self._looking.is_alive():
            return self._hangs()
        raised: list[Exception] = []
        self._looking = threading.Thread(
            target=_collect, args=(look, raised), name="look-at-volume", daemon=True
        )
        try:
            self._looking.start()
        except RuntimeError:
            self._looking = None
            return _NO_THREAD
        self._looking.join(self._longest_seconds)
        if self._looking.is_alive():
            return self._hangs()
        if not raised or isinstance(raised[0], VolumeFull):
            return None
        if isinstance(raised[0], VolumeUnavailable):
            return raised[0].message
        if isinstance(raised[0], MemoryError):
            return _NO_MEMORY
        raise raised[0]

    def _hangs(self) -> str:
        return (
            f"The volume has not answered for {self._longest_seconds:g} s: check its mount and the "
            "server behind it."
        )


def _collect(look: Callable[[], object], raised: list[Exception]) -> None:
    try:
        look()
    except Exception as error:
        raised.append(error)


def process_trouble() -> str | None:
    """One sentence that says what this process lacks, apart from the volume; None if nothing."""
    try:
        _start_threads()
        _open_descriptors()
        _touch_memory()
        _write_temporary_file()
    except RuntimeError:
        return _NO_THREAD
    except MemoryError:
        return _NO_MEMORY
    except OSError as error:
        return _trouble_of_system(error)
    return None


def _trouble_of_system(error: OSError) -> str:
    if error.errno in {errno.EMFILE, errno.ENFILE}:
        return "This node has no file descriptors left: raise its limit of open files."
    if error.errno == errno.ENOMEM:
        return _NO_MEMORY
    return (
        f"This node's temporary folder {tempfile.gettempdir()} cannot be written "
        f"({error.strerror}): free space on its disk, or repair it."
    )


def _start_threads() -> None:
    enough = threading.Event()
    threads: list[threading.Thread] = []
    try:
        for _ in range(_THREADS):
            thread = threading.Thread(target=enough.wait, daemon=True)
            thread.start()
            threads.append(thread)
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def _open_descriptors() -> None:
    with ExitStack() as opened:
        for _ in range(_DESCRIPTORS):
            opened.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def _touch_memory() -> None:
    memory = bytearray(_MEMORY_BYTES)
    memory[::4096] = b"x" * len(memory[::4096])


def _write_temporary_file() -> None:
    try:
        folder = tempfile.gettempdir()
    except FileNotFoundError:
        # No temporary folder exists at all: this node was set up without one on purpose.
        return
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        file.write(b"x" * _TEMPORARY_BYTES)

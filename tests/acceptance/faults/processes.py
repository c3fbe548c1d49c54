"""Process trees, read from /proc, and signals to them."""

import os
from contextlib import suppress
from pathlib import Path


def children(pid: int) -> list[int]:
    """The direct children of a process, living ones only."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name, which is in brackets, may contain spaces and brackets.
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(stat.parent.name))
    return sorted(found)


def tree(pid: int) -> list[int]:
    """A process and all of its descendants."""
    return [pid, *(below for child in children(pid) for below in tree(child))]


def send(pids: list[int], number: int) -> None:
    """Send a signal to those of these processes that still exist."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)

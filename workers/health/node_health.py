"""Keeps whether this node is sick, in memory that all processes of a worker share."""

import mmap
import os
import time
from ctypes import Structure, c_bool, c_char, c_double

from shared.pulls.steps.outcomes import NodeSick

_REASON_BYTES = 1000
_POLL_SECONDS = 0.05
# How long `raise_if_sick()` waits for the gate to close. In a worker whose main thread runs the
# steps the gate cannot close during that wait.
_GATE_SECONDS = 2.0


class _Shared(Structure):
    _fields_ = (
        ("is_sick", c_bool),
        ("is_consuming", c_bool),
        ("reported_at", c_double),
        ("reason", c_char * _REASON_BYTES),
    )


class NodeHealth:
    """The shared state of a node; create it before the fork.

    Any process may report trouble. Only the main process declares that the trouble is over.
    """

    def __init__(self) -> None:
        self._shared = _Shared.from_buffer(mmap.mmap(-1, mmap.PAGESIZE))
        self._main_pid = os.getpid()
        self._reported_by: int | None = None

    def report(self, reason: str) -> None:
        """Report that this node cannot work, and why."""
        self._shared.reason = reason.encode()[: _REASON_BYTES - 1]
        self._reported_by = os.getpid()
        # All processes of a machine read the same monotonic clock.
        self._shared.reported_at = time.monotonic()
        self._shared.is_sick = True

    def clear(self) -> None:
        """Declare the node well. For the main process."""
        self._shared.is_sick = False

    @property
    def reason(self) -> str | None:
        """One sentence that says why the node cannot work; None while it is well."""
        if not self._shared.is_sick:
            return None
        return bytes(self._shared.reason).decode(errors="ignore")

    @property
    def is_suspect(self) -> bool:
        """Whether this process is a child that reported trouble.

        If the main process finds the node well, the child may be in trouble alone.
        """
        return self._reported_by == os.getpid() != self._main_pid

    def clear_suspicion(self) -> None:
        """Note that this process is no longer suspect: a probe of it found no trouble."""
        self._reported_by = None

    @property
    def reported_at(self) -> float:
        """The time.monotonic() of the last report of trouble, by any process."""
        return float(self._shared.reported_at)

    @property
    def is_consuming(self) -> bool:
        """Whether the worker consumes messages."""
        return bool(self._shared.is_consuming)

    @is_consuming.setter
    def is_consuming(self, value: bool) -> None:
        self._shared.is_consuming = value

    def raise_if_sick(self) -> None:
        """Raises NodeSick if the node is sick, after the worker has stopped consuming.

        The message of the refused step is given back. While this worker still consumes, it would
        receive the same message again and again.
        """
        reason = self.reason
        if reason is None:
            return
        deadline = time.monotonic() + _GATE_SECONDS
        while self.is_consuming and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        raise NodeSick(reason)


node_health = NodeHealth()

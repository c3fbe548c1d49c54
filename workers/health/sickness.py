"""Whether this node is sick: one memory that the processes of a worker share."""

import mmap
import os
import time
from ctypes import Structure, c_bool, c_char, c_double

from workers.pulling.stops import NodeSick

_REASON_BYTES = 1000
_POLL_SECONDS = 0.05
# Until its messages are no longer consumed; a worker whose main thread runs the steps never sees
# that happen while it waits.
_GATE_SECONDS = 2.0


class _Shared(Structure):
    _fields_ = (
        ("is_sick", c_bool),
        ("is_consuming", c_bool),
        ("told_at", c_double),
        ("reason", c_char * _REASON_BYTES),
    )


class Sickness:
    """See the module. Made before the fork. Any process may tell of trouble, the main one alone
    says that it is over.
    """

    def __init__(self) -> None:
        self._shared = _Shared.from_buffer(mmap.mmap(-1, mmap.PAGESIZE))
        self._main_pid = os.getpid()
        self._told_by: int | None = None

    def tell(self, reason: str) -> None:
        """This node cannot work, and this is why."""
        self._shared.reason = reason.encode()[: _REASON_BYTES - 1]
        self._told_by = os.getpid()
        # Every process of this machine reads the same monotonic clock.
        self._shared.told_at = time.monotonic()
        self._shared.is_sick = True

    def is_over(self) -> None:
        """The node works again."""
        self._shared.is_sick = False

    @property
    def reason(self) -> str | None:
        """Why the node cannot work, one sentence; None while it is well."""
        if not self._shared.is_sick:
            return None
        return bytes(self._shared.reason).decode(errors="ignore")

    @property
    def is_suspect(self) -> bool:
        """Whether this process is a child that told of trouble: while the main one finds the node
        well, the trouble may be the child's alone.
        """
        return self._told_by == os.getpid() != self._main_pid

    def acquit(self) -> None:
        """This process has shown that it can work."""
        self._told_by = None

    @property
    def told_at(self) -> float:
        """When a process last told of trouble, by the monotonic clock."""
        return float(self._shared.told_at)

    @property
    def is_consuming(self) -> bool:
        """Whether messages still come."""
        return bool(self._shared.is_consuming)

    @is_consuming.setter
    def is_consuming(self, value: bool) -> None:
        self._shared.is_consuming = value

    def refuse(self) -> None:
        """Raises NodeSick while the node is sick, once no more messages come: one that is given
        back before that would come here again and again.
        """
        reason = self.reason
        if reason is None:
            return
        deadline = time.monotonic() + _GATE_SECONDS
        while self.is_consuming and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        raise NodeSick(reason)


sickness = Sickness()

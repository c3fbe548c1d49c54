"""The head of an answer - status and headers - comes as a whole within a measured time.

http.client waits for the next byte only, and so without an end for a registry that sends one now
and then, or `100 Continue` for ever.
"""

import http.client
import io
import socket
import time
from typing import Any

# So many times the longest silence: the first byte may take one of them.
_PATIENCE = 2
_INTERIM = range(102, 200)


class TimedHead(http.client.HTTPResponse):
    """An answer whose head is late raises TimeoutError; the body may take its time."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        self._clocked = _Clocked(sock)
        super().__init__(self._clocked, *arguments, **options)  # type: ignore[arg-type]  # makefile

    def begin(self) -> None:
        """Read the head."""
        super().begin()
        self._clocked.deadline = None

    def _read_status(self) -> tuple[str, int, str]:
        # http.client passes over 100 alone; 102 and 103 are no answers either (RFC 9110 §15.2).
        while True:
            line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if line[1] not in _INTERIM:
                return line
            while self.fp.readline().strip():
                """One header of it after another; the deadline ends a list without an end."""


class _Clocked(io.RawIOBase):
    """What a socket receives, until the deadline."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._received = sock.makefile("rb", buffering=0)
        silence_seconds = sock.gettimeout()
        self.deadline: float | None = None
        if silence_seconds is not None:
            self.deadline = time.monotonic() + _PATIENCE * silence_seconds

    def makefile(self, _mode: str) -> io.BufferedReader:
        """All that http.client asks of a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise TimeoutError("the head of the answer did not come in time")
        return self._received.readinto(buffer)

    def fileno(self) -> int:
        return self._received.fileno()

    def close(self) -> None:
        self._received.close()
        super().close()

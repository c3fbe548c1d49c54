"""A deadline for the head of a response, the status line and the headers.

http.client limits only the wait for the next byte. A registry that sends a byte now and then, or
an endless series of `100 Continue`, would otherwise block a thread for ever.
"""

import http.client
import io
import socket
import time
from typing import Any

# The deadline is this many stall time-outs: the first byte alone may take one.
_STALL_TIMEOUTS = 2
_INTERIM = range(102, 200)


class DeadlineResponse(http.client.HTTPResponse):
    """A response that raises TimeoutError if its head is late. Its body has no deadline."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        self._reader = _DeadlineReader(sock)
        super().__init__(self._reader, *arguments, **options)  # type: ignore[arg-type]  # makefile

    def begin(self) -> None:
        """Read the head, then lift the deadline."""
        super().begin()
        self._reader.deadline = None

    def _read_status(self) -> tuple[str, int, str]:
        # http.client skips only 100; 102 and 103 are interim responses as well (RFC 9110 §15.2).
        while True:
            line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if line[1] not in _INTERIM:
                return line
            while self.fp.readline().strip():
                """Skip a header of the interim response; the deadline ends an endless list."""


class _DeadlineReader(io.RawIOBase):
    """Reads from a socket until a deadline, by time.monotonic(). None: no deadline."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._received = sock.makefile("rb", buffering=0)
        stall_seconds = sock.gettimeout()
        self.deadline: float | None = None
        if stall_seconds is not None:
            self.deadline = time.monotonic() + _STALL_TIMEOUTS * stall_seconds

    def makefile(self, _mode: str) -> io.BufferedReader:
        """The only method of a socket that http.client's response calls."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise TimeoutError("the head of the response did not arrive in time")
        return self._received.readinto(buffer)

    def fileno(self) -> int:
        return self._received.fileno()

    def close(self) -> None:
        self._received.close()
        super().close()

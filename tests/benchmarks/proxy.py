"""A proxy between towline and an origin, which throttles.

It limits the bytes per second of each connection, delays each request (and each new connection's
handshake) by a latency, and makes one of every few connections slower than the others. It counts
what it forwards. It is a separate process. Responses go from socket to socket through a pipe
(splice), not through Python, so it uses little of the processors that are measured.

    with proxy("127.0.0.1:5000", bytes_per_second=40_000_000) as between: ...
"""

import argparse
import fcntl
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_PIPE_BYTES = 1024 * 1024
# A throttled connection gets its bytes in this many portions per second. A portion is no smaller
# than what a slow network delivers at once; less would measure how often a reader wakes up.
_PORTIONS_PER_SECOND = 100
_LEAST_PORTION_BYTES = 64 * 1024


@dataclass
class Proxy:
    """A running proxy. `host`: where it listens."""

    host: str
    _process: subprocess.Popen[str]

    def counted(self) -> tuple[int, int]:
        """Bytes served, including the heads of responses, and connections accepted."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        handed_out, connections = json.loads(self._process.stdout.readline())
        return handed_out, connections


@contextmanager
def proxy(
    upstream: str,
    bytes_per_second: float = 0,
    latency_seconds: float = 0,
    slow_every: int = 0,
    slow_phase: int = 0,
    slow_bytes_per_second: float = 0,
    total_bytes_per_second: float = 0,
) -> Iterator[Proxy]:
    """Start one. Of connections 0, 1, 2 … those are slow whose number modulo `slow_every` is
    `slow_phase`.

    `total_bytes_per_second`: the limit of all connections together.
    """
    options = [upstream, bytes_per_second, latency_seconds, slow_every, slow_phase]
    options += [slow_bytes_per_second, total_bytes_per_second]
    command = [sys.executable, "-m", __spec__.name, *map(str, options)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield Proxy(json.loads(process.stdout.readline()), process)
        process.kill()


class _Link:
    """The limit that all connections share: a portion is sent when its turn has come."""

    def __init__(self, bytes_per_second: float) -> None:
        self.bytes_per_second = bytes_per_second
        self._due = 0.0
        self._lock = threading.Lock()

    def wait(self, count: int) -> None:
        if not self.bytes_per_second:
            return
        with self._lock:
            now = time.monotonic()
            self._due = max(self._due, now - 0.05) + count / self.bytes_per_second
            due = self._due
        time.sleep(max(0.0, due - now))


class _Connection:
    """A client's connection, and ours to the origin."""

    def __init__(self, client: socket.socket, origin: socket.socket, link: _Link) -> None:
        self._link = link
        self.handed_out = 0
        self._client = client
        self._origin = origin
        # When the next portion may be sent. Idle time does not accumulate.
        self._due = 0.0

    def start(self, latency_seconds: float, bytes_per_second: float) -> None:
        for target, argument in (
            (self._requests, latency_seconds),
            (self._answers, bytes_per_second),
        ):
            threading.Thread(
                target=self._until_closed, args=(target, argument), daemon=True
            ).start()

    def _until_closed(self, target, argument: float) -> None:  # type: ignore[no-untyped-def]
        with suppress(OSError):
            target(argument)
        for end in (self._client, self._origin):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _requests(self, latency_seconds: float) -> None:
        time.sleep(latency_seconds)
        while request := self._client.recv(65536):
            time.sleep(latency_seconds)
            self._due = time.monotonic()
            self._origin.sendall(request)

    def _answers(self, bytes_per_second: float) -> None:
        drain, fill = os.pipe()
        try:
            fcntl.fcntl(fill, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            portion = _PIPE_BYTES
            if self._link.bytes_per_second:
                portion = _LEAST_PORTION_BYTES
            if bytes_per_second:
                portion = max(int(bytes_per_second / _PORTIONS_PER_SECOND), _LEAST_PORTION_BYTES)
            while count := os.splice(self._origin.fileno(), fill, min(portion, _PIPE_BYTES)):
                left = count
                while left:
                    left -= os.splice(drain, self._client.fileno(), left)
                self.handed_out += count
                self._link.wait(count)
                if bytes_per_second:
                    # Compensate only for a sleep that took too long.
                    self._due = max(self._due, time.monotonic() - 0.05) + count / bytes_per_second
                    time.sleep(max(0.0, self._due - time.monotonic()))
        finally:
            os.close(drain)
            os.close(fill)


def serve() -> None:
    """Serve until standard input ends. Answers each line of it with the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("upstream")
    for name in ("bytes_per_second", "latency_seconds"):
        parser.add_argument(name, type=float)
    for name in ("slow_every", "slow_phase"):
        parser.add_argument(name, type=int)
    parser.add_argument("slow_bytes_per_second", type=float)
    parser.add_argument("total_bytes_per_second", type=float)
    options = parser.parse_args()
    host, _, port = options.upstream.rpartition(":")
    connections: list[_Connection] = []
    link = _Link(options.total_bytes_per_second)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)

    def accept() -> None:
        for number in itertools.count():
            client, _ = listener.accept()
            origin = socket.create_connection((host, int(port)))
            for end in (client, origin):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(client, origin, link)
            connections.append(connection)
            every = options.slow_every
            slow = every and number % every == options.slow_phase
            rate = options.slow_bytes_per_second if slow else options.bytes_per_second
            connection.start(options.latency_seconds, rate)

    threading.Thread(target=accept, daemon=True).start()
    print(json.dumps(f"127.0.0.1:{listener.getsockname()[1]}"), flush=True)
    for _ in sys.stdin:
        counted = sum(connection.handed_out for connection in connections), len(connections)
        print(json.dumps(counted), flush=True)


if __name__ == "__main__":
    serve()

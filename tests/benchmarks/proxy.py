"""A proxy between towline and an origin: so many bytes a second for each connection, so long before
each request is forwarded (and as long for a new connection's handshake), one connection in so many
slower than the others. It counts what it hands out. A process of its own; the answers go from
socket to socket through a pipe (splice), not through Python, so that it takes little of the
processors that are measured.

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
# A throttled connection gets its bytes in so many portions a second, and none is smaller than what
# a slow network brings at once: less would measure how often a reader wakes up.
_PORTIONS_PER_SECOND = 100
_LEAST_PORTION_BYTES = 64 * 1024


@dataclass
class Proxy:
    """A running one. `host`: where it listens."""

    host: str
    _process: subprocess.Popen[str]

    def counted(self) -> tuple[int, int]:
        """Bytes handed out, heads of answers and all; connections accepted."""
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
    """Of connections 0, 1, 2 … those are slow whose number modulo `slow_every` is `slow_phase`.

    `total_bytes_per_second`: of all connections together.
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
    """What all connections share: a portion is handed out when its turn has come."""

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
    """One client's, and ours to the origin."""

    def __init__(self, client: socket.socket, origin: socket.socket, link: _Link) -> None:
        self._link = link
        self.handed_out = 0
        self._client = client
        self._origin = origin
        # When the next portion may be handed out. Nothing is saved up while nobody asks.
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
        for one in (self._client, self._origin):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

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
                    # Only a sleep that took too long is made up for.
                    self._due = max(self._due, time.monotonic() - 0.05) + count / bytes_per_second
                    time.sleep(max(0.0, self._due - time.monotonic()))
        finally:
            os.close(drain)
            os.close(fill)


def serve() -> None:
    """Until standard input ends; each line of it is answered with what was counted."""
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
            for one in (client, origin):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(client, origin, link)
            connections.append(connection)
            every = options.slow_every
            slow = every and number % every == options.slow_phase
            rate = options.slow_bytes_per_second if slow else options.bytes_per_second
            connection.start(options.latency_seconds, rate)

    threading.Thread(target=accept, daemon=True).start()
    print(json.dumps(f"127.0.0.1:{listener.getsockname()[1]}"), flush=True)
    for _ in sys.stdin:
        counted = sum(one.handed_out for one in connections), len(connections)
        print(json.dumps(counted), flush=True)


if __name__ == "__main__":
    serve()

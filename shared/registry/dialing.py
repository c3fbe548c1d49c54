"""The way to a host: its name is resolved here, once, and a judged address is connected to.

What is judged is what is connected to, so that a name which changes its mind in between (DNS
rebinding) leads nowhere. Several addresses race, each with a head start. Source: RFC 8305.
"""

import ipaddress
import os
import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from errno import EINPROGRESS
from typing import Any

from urllib3.util.connection import allowed_gai_family

from shared.registry.addresses import Reach, reach_of

_HEAD_START_SECONDS = 0.25


class AddressRefused(Exception):
    """Every address of a name lies beyond what is allowed. It never leaves this package."""

    def __init__(self, reach: Reach) -> None:
        super().__init__(reach)
        self.reach = reach


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address to connect to, as the resolver gave it."""

    family: int
    sockaddr: Any
    reach: Reach


def resolve(name: str, port: int) -> list[Endpoint]:
    """The addresses of a name, families in turn. The only place that asks the resolver."""
    found = socket.getaddrinfo(name.strip("[]"), port, allowed_gai_family(), socket.SOCK_STREAM)
    turns: Counter[int] = Counter()
    ranked = []
    for family, _, _, _, sockaddr in found:
        reach = reach_of(ipaddress.ip_address(sockaddr[0]))
        ranked.append((turns[family], Endpoint(family, sockaddr, reach)))
        turns[family] += 1
    return [endpoint for _, endpoint in sorted(ranked, key=lambda one: one[0])]


def dial(
    name: str, port: int, most: Reach, timeout_seconds: float, options: Sequence[Any] = ()
) -> tuple[socket.socket, Reach]:
    """A connection to an address of `name` that reaches no further than `most`, and its reach.

    Raises AddressRefused, OSError (TimeoutError, socket.gaierror).
    """
    found = resolve(name, port)
    allowed = [endpoint for endpoint in found if endpoint.reach <= most]
    if found and not allowed:
        raise AddressRefused(min(endpoint.reach for endpoint in found))
    return _Race(options).run(allowed, timeout_seconds)


class _Race:
    """Addresses connected to at once: each next one starts a little later, or when one failed."""

    def __init__(self, options: Sequence[Any]) -> None:
        self._options = options
        self._running: dict[Any, Endpoint] = {}
        self._selector = selectors.PollSelector()
        self._failure = OSError("the name has no address")

    def run(self, endpoints: Sequence[Endpoint], timeout_seconds: float) -> tuple[Any, Reach]:
        """The first that answers. Raises OSError, of the last that failed."""
        deadline = time.monotonic() + timeout_seconds
        waiting = deque(endpoints)
        try:
            while waiting or self._running:
                if waiting:
                    self._start(waiting.popleft())
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("no address answered in time")
                if won := self._first(min(left, _HEAD_START_SECONDS) if waiting else left):
                    won[0].settimeout(timeout_seconds)
                    return won
            raise self._failure
        finally:
            for loser in self._running:
                loser.close()
            self._selector.close()

    def _start(self, endpoint: Endpoint) -> None:
        try:
            racer = socket.socket(endpoint.family, socket.SOCK_STREAM)
        except OSError as error:
            self._failure = error
            return
        for option in self._options:
            racer.setsockopt(*option)
        racer.setblocking(False)
        self._running[racer] = endpoint
        code = racer.connect_ex(endpoint.sockaddr)
        if code in {0, EINPROGRESS}:
            self._selector.register(racer, selectors.EVENT_WRITE)
        else:
            self._drop(racer, code)

    def _first(self, seconds: float) -> tuple[Any, Reach] | None:
        """Who answered within so many seconds; those who refused leave the race."""
        for key, _ in self._selector.select(seconds) if self._running else ():
            racer: Any = key.fileobj
            self._selector.unregister(racer)
            code = racer.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                return racer, self._running.pop(racer).reach
            self._drop(racer, code)
        return None

    def _drop(self, racer: Any, code: int) -> None:
        del self._running[racer]
        racer.close()
        self._failure = OSError(code, os.strerror(code))

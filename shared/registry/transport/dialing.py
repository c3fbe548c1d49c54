"""Resolves a host name, checks its addresses, and connects to an allowed one.

The name is resolved once, and the connection goes to an address that was checked. A second lookup
could return another address than the one checked (DNS rebinding). Several addresses are tried in
parallel, each a moment after the one before (happy eyeballs). Source: RFC 8305.
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

from shared.registry.transport.addresses import AddressScope, scope_of

_HEAD_START_SECONDS = 0.25


class AddressNotAllowed(Exception):
    """No address of a name is allowed. `scope`: the least dangerous one of them. Not raised outside
    of this package.
    """

    def __init__(self, scope: AddressScope) -> None:
        super().__init__(scope)
        self.scope = scope


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address from the resolver, with its scope."""

    family: int
    sockaddr: Any
    scope: AddressScope


def resolve(name: str, port: int) -> list[Endpoint]:
    """The addresses of a name, alternating between IPv6 and IPv4. Raises socket.gaierror.

    No other function asks the resolver.
    """
    found = socket.getaddrinfo(name.strip("[]"), port, allowed_gai_family(), socket.SOCK_STREAM)
    count_by_family: Counter[int] = Counter()
    ranked = []
    for family, _, _, _, sockaddr in found:
        scope = scope_of(ipaddress.ip_address(sockaddr[0]))
        ranked.append((count_by_family[family], Endpoint(family, sockaddr, scope)))
        count_by_family[family] += 1
    return [endpoint for _, endpoint in sorted(ranked, key=lambda pair: pair[0])]


def dial(
    name: str, port: int, most: AddressScope, timeout_seconds: float, options: Sequence[Any] = ()
) -> tuple[socket.socket, AddressScope]:
    """Connect to an address of `name` in a scope up to `most`. Returns the socket and the scope.

    Raises AddressNotAllowed, OSError (TimeoutError, socket.gaierror).
    """
    found = resolve(name, port)
    allowed = [endpoint for endpoint in found if endpoint.scope <= most]
    if found and not allowed:
        raise AddressNotAllowed(min(endpoint.scope for endpoint in found))
    return _Race(options).run(allowed, timeout_seconds)


class _Race:
    """Connects to several addresses in parallel. The next attempt starts when one fails, or after
    `_HEAD_START_SECONDS`.
    """

    def __init__(self, options: Sequence[Any]) -> None:
        self._options = options
        self._connecting: dict[Any, Endpoint] = {}
        self._selector = selectors.PollSelector()
        self._failure = OSError("the name has no address")

    def run(
        self, endpoints: Sequence[Endpoint], timeout_seconds: float
    ) -> tuple[Any, AddressScope]:
        """The first connection that is made. Raises the OSError of the last failure, TimeoutError
        if time runs out.
        """
        deadline = time.monotonic() + timeout_seconds
        waiting = deque(endpoints)
        try:
            while waiting or self._connecting:
                if waiting:
                    self._start(waiting.popleft())
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("no address answered in time")
                if connected := self._first(min(left, _HEAD_START_SECONDS) if waiting else left):
                    connected[0].settimeout(timeout_seconds)
                    return connected
            raise self._failure
        finally:
            for unused in self._connecting:
                unused.close()
            self._selector.close()

    def _start(self, endpoint: Endpoint) -> None:
        try:
            candidate = socket.socket(endpoint.family, socket.SOCK_STREAM)
        except OSError as error:
            self._failure = error
            return
        for option in self._options:
            candidate.setsockopt(*option)
        candidate.setblocking(False)
        self._connecting[candidate] = endpoint
        code = candidate.connect_ex(endpoint.sockaddr)
        if code in {0, EINPROGRESS}:
            self._selector.register(candidate, selectors.EVENT_WRITE)
        else:
            self._drop(candidate, code)

    def _first(self, seconds: float) -> tuple[Any, AddressScope] | None:
        """The first connection made within this time, None if there is none. Drops failed ones."""
        for key, _ in self._selector.select(seconds) if self._connecting else ():
            candidate: Any = key.fileobj
            self._selector.unregister(candidate)
            code = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                return candidate, self._connecting.pop(candidate).scope
            self._drop(candidate, code)
        return None

    def _drop(self, candidate: Any, code: int) -> None:
        del self._connecting[candidate]
        candidate.close()
        self._failure = OSError(code, os.strerror(code))

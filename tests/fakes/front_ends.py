"""Front ends of a registry that are slow, distant, or limit concurrent requests.

More faults for a `FakeRegistry`, and conditions (`when`) for the faults in `faults.py`.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.fakes.answers import Answer, Request
from tests.fakes.faults import Fault, Status
from tests.fakes.registry import FakeRegistry

Meant = Callable[[Request], bool]


@dataclass(frozen=True)
class FarAway(Fault):
    """The first byte of a response arrives after `seconds`."""

    seconds: float = 0.2

    def spoil(self, answer: Answer, request: Request) -> None:
        time.sleep(self.seconds)


def every_nth_connection(nth: int) -> Meant:
    """Matches the requests on every n-th connection that was opened for blobs."""
    ports: list[int] = []

    def is_meant(request: Request) -> bool:
        if request.port not in ports:
            ports.append(request.port)
        return (ports.index(request.port) + 1) % nth == 0

    return is_meant


def every_nth_request(nth: int) -> Meant:
    """Matches every n-th request for a range."""
    asked = [0]

    def is_meant(request: Request) -> bool:
        asked[0] += request.range is not None
        return request.range is not None and asked[0] % nth == 0

    return is_meant


def after_requests(count: int) -> Meant:
    """Matches all requests for ranges after the first `count`."""
    asked = [0]

    def is_meant(request: Request) -> bool:
        asked[0] += request.range is not None
        return asked[0] > count

    return is_meant


class Door:
    """Serves at most `most` requests for blobs at a time, and answers `status` to the others."""

    def __init__(self, registry: FakeRegistry, most: int, status: int) -> None:
        self.refused = 0
        self._most = most
        self._inside: set[int] = set()
        self._guard = threading.Lock()
        registry.on_answer = self._leave
        registry.fail(Status(status=status, when=self._refuses))

    def _refuses(self, request: Request) -> bool:
        with self._guard:
            if len(self._inside) >= self._most:
                self.refused += 1
                return True
            self._inside.add(id(request))
            return False

    def _leave(self, request: Request) -> None:
        with self._guard:
            self._inside.discard(id(request))

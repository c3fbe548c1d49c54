"""The permit that each request to a registry needs, as the registry client sees it.

`RateLimiter.acquire` grants the permits of a fleet. `unlimited` grants every one at once.
"""

from collections.abc import Callable
from typing import Protocol


class RequestPermit(Protocol):
    """One connection in use. Only the thread that uses the connection calls its methods."""

    def release(self) -> None:
        """Release the connection. A second call does nothing."""

    def answered(self) -> None:
        """Note that the host answered and asked for no pause."""

    def back_off(self, seconds: float | None) -> float:
        """Note that the host asked for a pause, and for how long if it named a time.

        Returns how long the fleet waits, in seconds.
        """
        ...

    def mark_unreachable(self) -> None:
        """Mark the host as unreachable: it did not answer, or the answer was not its own."""

    def received(self, count: int) -> float:
        """Note that `count` bytes arrived. Returns the seconds to wait before reading more.

        There is a wait only if the operator has limited the bandwidth of the whole fleet.
        """
        ...


# Grants a permit for one request. Its arguments are the host, by its name in references
# (`docker.io`, `host:port`), and the fleet's limits at that host: connections, requests per second,
# bytes per second, each None for the default. If it raises HeldBack or HostIsDead, the caller must
# not send the request.
AcquirePermit = Callable[[str, int | None, float | None, int | None], RequestPermit]


def unlimited(*_: object) -> RequestPermit:
    """Grant a permit whose methods do nothing."""
    return _NoLimits()


class _NoLimits:
    def release(self) -> None:
        """Do nothing: connections are not counted."""

    def answered(self) -> None:
        """Do nothing: hosts are not remembered."""

    def back_off(self, seconds: float | None) -> float:
        """Return the wait that the host asked for. Other requests are not held back."""
        return seconds or 0.0

    def mark_unreachable(self) -> None:
        """Do nothing: hosts are not remembered."""

    def received(self, count: int) -> float:
        """Return 0: bandwidth is not limited."""
        return 0.0

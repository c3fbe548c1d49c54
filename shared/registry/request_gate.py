"""The interface of the rate limiter, as the registry client sees it.

`shared/rate_limiter` implements it for a fleet. `Unlimited` limits nothing.
"""

from typing import Protocol


class Permit(Protocol):
    """One connection in use. Only the thread that uses the connection calls its methods."""

    def release(self) -> None:
        """Release the connection. A second call does nothing."""

    def answered(self) -> None:
        """The host answered and asked for no pause."""

    def back_off(self, seconds: float | None) -> float:
        """The host asked for a pause, of `seconds` if it named a time. Returns the fleet's wait."""
        ...

    def mark_unreachable(self) -> None:
        """Mark the host as unreachable: it did not answer, or the answer was not its own."""

    def received(self, count: int) -> float:
        """`count` bytes arrived. Returns how long to wait before reading more, in seconds: the
        operator may limit the bandwidth of the whole fleet.
        """
        ...


class Gate(Protocol):
    """Grants permits. Hosts go by their names in references: `docker.io`, `host:port`."""

    def acquire(
        self,
        host: str,
        connections: int | None = None,
        requests_per_second: float | None = None,
        bandwidth_bytes_per_second: int | None = None,
    ) -> Permit:
        """A permit for one request; a limit of None takes the default.

        Raises HeldBack and HostIsDead; the caller must not send the request then.
        """
        ...


class Unlimited:
    """Grants every permit at once and remembers nothing."""

    def acquire(self, host: str, *_: object) -> Permit:
        """A permit whose methods do nothing."""
        return _Unlimited()


class _Unlimited:
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

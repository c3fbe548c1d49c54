"""The gate before every request: whether a host may be asked now, and what came of it.

`shared/governor` is the fleet's; without one (`OpenGate`) nobody else asks the same host.
"""

from typing import Protocol


class Permit(Protocol):
    """One connection in use. Every method may be called from the thread that uses it."""

    def leave(self) -> None:
        """The connection is free again. Harmless twice."""

    def answered(self) -> None:
        """The host answered: it is alive, and asks nobody to wait."""

    def hold(self, seconds: float | None) -> float:
        """It asked to be left alone, for `seconds` or for a while. How long everybody waits."""
        ...

    def bury(self) -> None:
        """It did not answer, or with what is not its own: nobody asks it for a while."""

    def received(self, count: int) -> float:
        """`count` bytes came. How long no more are read, in seconds: the fleet has a cap."""
        ...


class Gate(Protocol):
    """Who may be asked. Hosts go by name, as in references."""

    def enter(
        self,
        host: str,
        connections: int | None = None,
        requests_per_second: float | None = None,
        bandwidth_bytes_per_second: int | None = None,
    ) -> Permit:
        """A permit for one request. Raises HeldBack and HostIsDead: nothing was asked."""
        ...


class OpenGate:
    """Nobody else asks, and nobody is told."""

    def enter(self, host: str, *_: object) -> Permit:
        """See Gate."""
        return _Free()


class _Free:
    def leave(self) -> None:
        """See Permit."""

    def answered(self) -> None:
        """See Permit."""

    def hold(self, seconds: float | None) -> float:
        """See Permit."""
        return seconds or 0.0

    def bury(self) -> None:
        """See Permit."""

    def received(self, count: int) -> float:
        """See Permit."""
        return 0.0

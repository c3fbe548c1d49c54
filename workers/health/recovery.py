"""How long a node must be well before it works again: a half-open circuit breaker."""

_FIRST_SECONDS = 4.0
_LONGEST_SECONDS = 60.0
# A node that falls sick again within this time doubles its waiting time.
_RELAPSE_SECONDS = 60.0


class Recovery:
    """The waiting time of one node. `at` and `now` are seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._seconds = _FIRST_SECONDS
        self._trouble_at: float | None = None
        self._recovered_at: float | None = None

    def trouble(self, at: float) -> None:
        """Note that the node was sick at this time."""
        if self._trouble_at is None:
            self._seconds = self._next_seconds(at)
        self._trouble_at = at if self._trouble_at is None else max(at, self._trouble_at)

    def is_complete(self, now: float) -> bool:
        """Whether the node was sick and has been well for long enough. True once per recovery."""
        if self._trouble_at is None or now - self._trouble_at < self._seconds:
            return False
        self._trouble_at, self._recovered_at = None, now
        return True

    def _next_seconds(self, at: float) -> float:
        if self._recovered_at is None or at - self._recovered_at > _RELAPSE_SECONDS:
            return _FIRST_SECONDS
        return min(2 * self._seconds, _LONGEST_SECONDS)

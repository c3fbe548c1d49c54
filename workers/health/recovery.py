"""How long a node must be well before it works again: a half-open circuit breaker."""

_FIRST_SECONDS = 4.0
_LONGEST_SECONDS = 60.0
# A node that falls sick again this soon was not well.
_RELAPSE_SECONDS = 60.0


class Recovery:
    """Of one node; `now` is any clock that only goes on, in seconds."""

    def __init__(self) -> None:
        self._seconds = _FIRST_SECONDS
        self._trouble_at: float | None = None
        self._recovered_at: float | None = None

    def trouble(self, at: float) -> None:
        """The node was seen sick."""
        if self._trouble_at is None:
            self._seconds = self._next_seconds(at)
        self._trouble_at = at if self._trouble_at is None else max(at, self._trouble_at)

    def is_complete(self, now: float) -> bool:
        """Whether it has been well for long enough; it works from then on."""
        if self._trouble_at is None or now - self._trouble_at < self._seconds:
            return False
        self._trouble_at, self._recovered_at = None, now
        return True

    def _next_seconds(self, at: float) -> float:
        if self._recovered_at is None or at - self._recovered_at > _RELAPSE_SECONDS:
            return _FIRST_SECONDS
        return min(2 * self._seconds, _LONGEST_SECONDS)

"""What a client must do when a registry misbehaves, as a value that a test can check.

Not stated for each fault, because it always holds: nothing wrong is stored, credentials are sent
only to the hosts that they are for, no secret is printed, and every pull ends.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Promise:
    """`says`: the promise in words. `error`: towline's error class, None if the pull completes.

    `requests`: how many requests may reach the registry, with three attempts. `refetched_bytes`:
    how many bytes of layers may be sent twice, None for no limit. `waits_seconds`: the least wait
    before the request is repeated. `is_choice`: the specifications leave it open whether the pull
    completes, so another client may do the opposite.
    """

    says: str
    error: str | None = None
    requests: int = 12
    refetched_bytes: int | None = None
    is_choice: bool = False
    waits_seconds: float = 0

    def __str__(self) -> str:
        end = f"`{self.error}`" if self.error else "complete"
        return f"{end}: {self.says}"


def completes(
    says: str,
    *,
    requests: int = 12,
    refetched_bytes: int | None = None,
    is_choice: bool = False,
    waits_seconds: float = 0,
) -> Promise:
    """The pull completes, with correct bytes."""
    return Promise(says, None, requests, refetched_bytes, is_choice, waits_seconds)


def refuses(error: str, says: str, *, requests: int = 12, is_choice: bool = False) -> Promise:
    """The pull fails with this error, after at most `requests` requests."""
    return Promise(says, error, requests, None, is_choice)

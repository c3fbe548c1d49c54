"""What a client owes its user when a registry misbehaves: a value that a test can hold it to.

Of every client alike is asked, and so not said each time: nothing wrong is kept, no credentials go
to a host that they are not for, no secret stands in what is printed, and there is an end.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Promise:
    """`says`: the sentence for people. `error`: towline's class, None where the pull completes.

    `requests`: at most so many reach the registry, with three tries. `refetched_bytes`: at most so
    many bytes of layers come twice, None where that is no question.
    `waits_seconds`: not sooner is asked again.
    `is_choice`: the specifications leave it open, so another client may also do the other thing.
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
    """The image arrives, every byte as its digest says."""
    return Promise(says, None, requests, refetched_bytes, is_choice, waits_seconds)


def refuses(error: str, says: str, *, requests: int = 12, is_choice: bool = False) -> Promise:
    """The pull fails with this error, and soon."""
    return Promise(says, error, requests, None, is_choice)

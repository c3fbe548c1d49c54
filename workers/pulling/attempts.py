"""What a failure means: try again later, or the end of the pull. The class of the error decides.

A transient error is tried again until `TOWLINE_ATTEMPTS` tries in a row brought no progress; the
count stands in PostgreSQL, on the pull while it is planned or linked and on its layer while that
is fetched, so that it outlives every worker. The first cause of a failure wins.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from shared.catalog import pull_layers, pulls
from shared.errors import (
    CatalogUnavailable,
    DigestMismatch,
    PermanentError,
    RateLimited,
    SizeMismatch,
    TowlineError,
    TransientError,
)
from shared.oci.digest import Digest
from workers.resources import Resources

_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 8.0
# A registry may ask for years; nobody waits longer than this without asking again.
_LONGEST_ASKED_SECONDS = 3600.0

# A registry that serves wrong bytes in full will hardly serve right ones the fifth time.
_MISMATCH_ATTEMPTS = 3


class TryAgain(Exception):
    """This step has to run again in `delay_seconds`; `cause` says why."""

    def __init__(self, delay_seconds: float, cause: TransientError) -> None:
        super().__init__(delay_seconds, cause)
        self.delay_seconds = delay_seconds
        self.cause = cause


@dataclass(slots=True)
class Attempt:
    """One try of one step. `reached_bytes` tells progress from standing still."""

    resources: Resources
    pull_id: str
    digest: Digest | None = None
    reached_bytes: int = field(default=0)


@contextmanager
def attempt(resources: Resources, pull_id: str, digest: Digest | None = None) -> Iterator[Attempt]:
    """Run a step of a pull. Raises TryAgain, or the error after the pull was failed with it."""
    current = Attempt(resources, pull_id, digest)
    try:
        yield current
    except CatalogUnavailable as error:
        # Nothing can be counted while the database is away, and no pull fails because of it.
        raise TryAgain(_LONGEST_DELAY_SECONDS * random.random(), error) from error  # noqa: S311
    except TransientError as error:
        raise _again(current, error) from error
    except PermanentError as error:
        fail(resources, pull_id, error)
        raise
    except Exception as error:
        fail(
            resources,
            pull_id,
            TowlineError(
                f"An unexpected {type(error).__name__} ended this pull: "
                "the worker's log has the traceback."
            ),
        )
        raise


def fail(resources: Resources, pull_id: str, error: TowlineError) -> None:
    """End the pull as failed with this cause, unless it has ended already."""
    with resources.catalog.begin() as tx:
        pulls.fail(tx, pull_id, type(error).__name__, error.code, error.message)


def abandon(resources: Resources, pull_id: str) -> None:
    """The net: a layer task ended without a word (revoked, or lost for good)."""
    fail(
        resources,
        pull_id,
        TowlineError("A task of this pull was revoked or lost: pull it again."),
    )


def _again(current: Attempt, error: TransientError) -> TransientError | TryAgain:
    """Count the failure; the error itself when the budget is used up and the pull has failed."""
    failures = _count(current)
    if failures >= _budget(current.resources, error):
        fail(current.resources, current.pull_id, error)
        return error
    delay_seconds = _delay_seconds(failures, error)
    with current.resources.catalog.begin() as tx:
        pulls.wait(tx, current.pull_id, _cause(error), delay_seconds, error.message)
    return TryAgain(delay_seconds, error)


def _cause(error: TransientError) -> str:
    return "rate_limit" if isinstance(error, RateLimited) else "backoff"


def _count(current: Attempt) -> int:
    with current.resources.catalog.begin() as tx:
        if current.digest is None:
            return pulls.count_failure(tx, current.pull_id)
        return pull_layers.count_failure(tx, current.pull_id, current.digest, current.reached_bytes)


def _budget(resources: Resources, error: TransientError) -> int:
    if isinstance(error, DigestMismatch | SizeMismatch):
        return min(resources.settings.attempts, _MISMATCH_ATTEMPTS)
    return resources.settings.attempts


def _delay_seconds(failures: int, error: TransientError) -> float:
    """Exponential with full jitter; never sooner than the registry asked for."""
    ceiling = min(_FIRST_DELAY_SECONDS * 2.0 ** (failures - 1), _LONGEST_DELAY_SECONDS)
    delay_seconds = ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - spread, not secrecy
    if isinstance(error, RateLimited) and error.retry_after_seconds is not None:
        asked_seconds = min(error.retry_after_seconds, _LONGEST_ASKED_SECONDS)
        delay_seconds = max(delay_seconds, asked_seconds)
    return delay_seconds

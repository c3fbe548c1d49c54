"""What a transient error means: try the step again after a delay, or fail the pull.

A step is tried again until `TOWLINE_ATTEMPTS` tries in a row made no progress. The count is kept in
PostgreSQL, so that it outlives every worker: on the pull while that is planned or linked, and on
the layer while that is fetched. A full volume is not counted: the pull waits for space.
"""

import random
from collections.abc import Mapping

from shared.catalog.admission import registry_holds, waiting_pulls
from shared.catalog.database.catalog import Connection
from shared.catalog.layers import pull_layers, shared_failures, waiters
from shared.catalog.pulls import lifecycle
from shared.errors import (
    DigestMismatch,
    InternalError,
    RateLimited,
    SizeMismatch,
    TransientError,
    VolumeFull,
    VolumeUnavailable,
)
from shared.pulls.context import Context
from shared.pulls.steps.attempt import (
    Attempt,
    fail_row,
    hand_over,
    hand_over_layer,
    release,
)
from shared.pulls.steps.outcomes import LONGEST_IN_MEMORY_SECONDS, SPACE_SECONDS, TryAgain

_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 8.0
# A registry may ask the fleet to wait for years. A pull asks again after this long at the latest.
_LONGEST_ASKED_SECONDS = 3600.0

# A registry that has served wrong bytes in full is not likely to serve the right ones next time.
_MISMATCH_ATTEMPTS = 3


def outage(error: TransientError) -> TryAgain:
    """The database is unavailable: nothing can be counted, and no pull fails because of it."""
    return TryAgain(_LONGEST_DELAY_SECONDS * random.random(), error)  # noqa: S311 - spread only


def count(attempt: Attempt, error: TransientError) -> TransientError | TryAgain:
    """Count the failure. Returns TryAgain, or the error itself if the budget is used up and the
    pull was failed with it.

    Pulls that waited for this try of a layer share its failure. Raises LeaseLost.
    """
    if attempt.is_fetched_for_another:
        hand_over_layer(attempt)
        return TryAgain(0.0, error)
    with attempt.context.catalog.begin() as tx:
        _lock(tx, attempt)
        failures = _count(tx, attempt)
        delay_seconds = _delay_seconds(max(failures, 1), error)
        failed = _share(tx, attempt, error, delay_seconds)
        if failures >= _budget(attempt.context, error):
            failed.append(attempt.fetched_for)
        else:
            _wait(tx, attempt, error, delay_seconds)
        # The lock order of pulls is by id.
        for pull_id in sorted(failed):
            fail_row(tx, pull_id, error)
        attempt.outbox.layers += hand_over(tx, attempt, but=attempt.fetched_for)
    attempt.outbox.end(failed)
    return error if attempt.fetched_for in failed else TryAgain(delay_seconds, error)


def postpone(attempt: Attempt, error: TransientError) -> TryAgain:
    """Wait, and count nothing: the rate limiter kept the request back, or the volume is full.

    Other pulls that wait for the layer are not made to wait as well: they find out when they try.
    Raises LeaseLost.
    """
    if attempt.is_fetched_for_another:
        hand_over_layer(attempt)
        return TryAgain(0.0, error)
    asked_seconds = SPACE_SECONDS - 1.0 if isinstance(error, VolumeFull) else 1.0
    # With jitter, so that the steps that wait do not all come back at the same moment.
    delay_seconds = (error.retry_after_seconds or asked_seconds) + random.uniform(0.0, 0.5)  # noqa: S311
    with attempt.context.catalog.begin() as tx:
        _lock(tx, attempt)
        _wait(tx, attempt, error, delay_seconds)
        release(tx, attempt)
    return TryAgain(delay_seconds, error)


def _lock(tx: Connection, attempt: Attempt) -> None:
    """Lock the pulls whose rows may change, by id and before any layer: the lock order."""
    if attempt.leased is None:
        lifecycle.lock(tx, attempt.pull_id)
    else:
        waiters.lock_pulls_that_want(tx, attempt.leased.registry, attempt.leased.digest)


def _count(tx: Connection, attempt: Attempt) -> int:
    if attempt.digest is None:
        return lifecycle.count_failure(tx, attempt.pull_id)
    reached = attempt.leased.progress.reached if attempt.leased else 0
    return pull_layers.count_failure(tx, attempt.fetched_for, attempt.digest, reached)


def _share(
    tx: Connection, attempt: Attempt, error: TransientError, delay_seconds: float
) -> list[str]:
    """Count the failure for the pulls of the same repository that waited for this try, unless the
    cause was this worker. Returns the ids of those whose budget is used up.
    """
    if attempt.digest is None or isinstance(error, VolumeUnavailable | InternalError):
        return []
    shared: Mapping[str, int] = dict(
        shared_failures.share(
            tx,
            attempt.fetched_for,
            attempt.digest,
            cause=_cause(error),
            detail=error.message,
            seconds=delay_seconds,
            whole_registry=isinstance(error, RateLimited),
        )
    )
    budget = _budget(attempt.context, error)
    return [pull_id for pull_id, failures in shared.items() if failures >= budget]


def _wait(tx: Connection, attempt: Attempt, error: TransientError, delay_seconds: float) -> None:
    stays_in_memory = delay_seconds <= LONGEST_IN_MEMORY_SECONDS
    if isinstance(error, RateLimited) and not stays_in_memory:
        pull = lifecycle.get(tx, attempt.fetched_for)
        if pull is not None and pull.registry is not None:
            registry_holds.hold(tx, pull.registry, delay_seconds, error.message)
    if attempt.digest is None:
        if isinstance(error, RateLimited) and not stays_in_memory:
            waiting_pulls.readmit_later(
                tx, attempt.pull_id, "rate_limit", delay_seconds, error.message
            )
        else:
            lifecycle.wait(tx, attempt.pull_id, _cause(error), delay_seconds, error.message)
        return
    lifecycle.show_waiting(tx, attempt.fetched_for, _cause(error), delay_seconds, error.message)
    pull_layers.wait(
        tx,
        attempt.fetched_for,
        attempt.digest,
        _cause(error),
        delay_seconds,
        error.message,
        has_message=stays_in_memory,
    )


def _cause(error: TransientError) -> str:
    if isinstance(error, RateLimited):
        return "rate_limit"
    return "space" if isinstance(error, VolumeFull) else "backoff"


def _budget(context: Context, error: TransientError) -> int:
    if isinstance(error, DigestMismatch | SizeMismatch):
        return min(context.settings.attempts, _MISMATCH_ATTEMPTS)
    return context.settings.attempts


def _delay_seconds(failures: int, error: TransientError) -> float:
    """Return the delay before the next attempt: exponential backoff with a jitter of up to a half.

    If the registry asked for a longer wait, the delay is that wait, but at most an hour.
    """
    ceiling = min(_FIRST_DELAY_SECONDS * 2.0 ** (failures - 1), _LONGEST_DELAY_SECONDS)
    delay_seconds = ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - spread, not secrecy
    if error.retry_after_seconds is not None:
        asked_seconds = min(error.retry_after_seconds, _LONGEST_ASKED_SECONDS)
        delay_seconds = max(delay_seconds, asked_seconds)
    return delay_seconds

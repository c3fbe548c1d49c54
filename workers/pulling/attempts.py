"""What a failure means: try again later, or the end of the pull. The class of the error decides.

A transient error is tried again until `TOWLINE_ATTEMPTS` tries in a row brought no progress; the
count stands in PostgreSQL, on the pull while it is planned or linked and on its layer while that
is fetched, so that it outlives every worker. The first cause of a failure wins.

A layer that failed is handed over in the same transaction that says so: its lease is released, and
the best pull that also waits for it goes on with the same bytes.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from shared.catalog import ends, leases, pull_layers, pulls, shared_failures, waiters
from shared.catalog.database import Connection
from shared.catalog.layer_messages import LayerMessage
from shared.errors import (
    CatalogUnavailable,
    DigestMismatch,
    HeldBack,
    PermanentError,
    RateLimited,
    SizeMismatch,
    TowlineError,
    TransientError,
    VolumeFull,
    VolumeUnavailable,
)
from shared.oci.digest import Digest
from workers.pulling.keeping import Stopped, Transfer
from workers.pulling.outbox import Outbox
from workers.resources import Resources

_FIRST_DELAY_SECONDS = 1.0
_LONGEST_DELAY_SECONDS = 8.0
# A registry may ask for years; nobody waits longer than this without asking again.
_LONGEST_ASKED_SECONDS = 3600.0

# A registry that serves wrong bytes in full will hardly serve right ones the fifth time.
_MISMATCH_ATTEMPTS = 3

# What waits no longer than this may wait as a message in a worker's memory; the rest waits in
# PostgreSQL, and the reconciler sends it when its time has come.
_LONGEST_IN_MEMORY_SECONDS = 15.0


class Postponed(Exception):
    """This step did nothing, for a reason that is no failure; its message comes again."""


class TryAgain(Exception):
    """This step has to run again in `delay_seconds`; `cause` says why."""

    def __init__(self, delay_seconds: float, cause: TransientError) -> None:
        super().__init__(delay_seconds, cause)
        self.delay_seconds = delay_seconds
        self.cause = cause

    @property
    def in_memory(self) -> bool:
        """Whether the message itself may wait."""
        return self.delay_seconds <= _LONGEST_IN_MEMORY_SECONDS


@dataclass(slots=True)
class Attempt:
    """One try of one step. `transfer`: its download, once it holds the lease for it."""

    resources: Resources
    pull_id: str
    outbox: Outbox
    digest: Digest | None = None
    transfer: Transfer | None = field(default=None)
    # Bytes on disk that a next try begins with.
    kept_bytes: int = field(default=0)
    # Whether somebody may wait for the slot that this one takes.
    frees_slot: bool = field(default=True)

    @property
    def beneficiary(self) -> str:
        """Whose failure this would be: the pull that the bytes are fetched for by now."""
        return self.transfer.pull_id if self.transfer else self.pull_id


@contextmanager
def attempt(
    resources: Resources, pull_id: str, outbox: Outbox, digest: Digest | None = None
) -> Iterator[Attempt]:
    """Run a step of a pull. Raises TryAgain, or the error after the pull was failed with it."""
    current = Attempt(resources, pull_id, outbox, digest)
    try:
        yield current
    except CatalogUnavailable as error:
        # Nothing can be counted while the database is away, and no pull fails because of it.
        with suppress(CatalogUnavailable):
            let_go(current)
        raise TryAgain(_LONGEST_DELAY_SECONDS * random.random(), error) from error  # noqa: S311
    except HeldBack as error:
        raise _held_back(current, error) from error
    except TransientError as error:
        raise _again(current, error) from error
    except PermanentError as error:
        fail_attempt(current, error)
        raise
    except (Stopped, Postponed):
        raise
    except Exception as error:
        fail_attempt(
            current,
            TowlineError(
                f"An unexpected {type(error).__name__} ended this pull: "
                "the worker's log has the traceback."
            ),
        )
        raise
    except BaseException:
        # The process is told to end: whoever gets the message next goes on at once.
        let_go(current)
        raise


def fail(resources: Resources, pull_id: str, error: TowlineError, outbox: Outbox) -> None:
    """End the pull as failed with this cause, unless it has ended already."""
    with resources.catalog.begin() as tx:
        _fail(tx, pull_id, error)
    outbox.end([pull_id])


def fail_attempt(current: Attempt, error: TowlineError) -> None:
    """End the pull with this cause, and hand its layer over to the best pull that waits for it."""
    with current.resources.catalog.begin() as tx:
        _fail(tx, current.beneficiary, error)
        current.outbox.layers += hand_over(tx, current)
    current.outbox.end([current.beneficiary])


def let_go(current: Attempt) -> None:
    """Release the lease, if there is one, without a word about failure: the message comes back."""
    with current.resources.catalog.begin() as tx:
        release(tx, current)


def _fail(tx: Connection, pull_id: str, error: TowlineError) -> None:
    ends.fail(tx, pull_id, type(error).__name__, error.code, error.message)


def release(tx: Connection, current: Attempt) -> None:
    """Give the lease back; the row keeps how far the ingest is."""
    transfer = current.transfer
    if transfer is not None:
        leases.release(tx, transfer.registry, transfer.digest, transfer.fence, current.kept_bytes)


def hand_over(tx: Connection, current: Attempt) -> list[LayerMessage]:
    """Release the lease, and make due who goes on: with this layer, or else with the free slot."""
    transfer = current.transfer
    if transfer is None:
        return []
    # The lease last: it is what everybody locks last.
    due = waiters.hand_over(tx, transfer.registry, transfer.digest, but=current.beneficiary)
    due = due or waiters.unpark(tx)
    release(tx, current)
    return due


def _again(current: Attempt, error: TransientError) -> TransientError | TryAgain:
    """Count the failure; the error itself when the budget is used up and the pull has failed."""
    with current.resources.catalog.begin() as tx:
        _lock(tx, current)
        failures = _count(tx, current)
        delay_seconds = _delay_seconds(max(failures, 1), error)
        spent = _share(tx, current, error, delay_seconds)
        if failures >= _budget(current.resources, error):
            spent.append(current.beneficiary)
        else:
            _wait(tx, current, error, delay_seconds)
        # By id, as everybody locks pulls.
        for pull_id in sorted(spent):
            _fail(tx, pull_id, error)
        current.outbox.layers += hand_over(tx, current)
    current.outbox.end(spent)
    return error if current.beneficiary in spent else TryAgain(delay_seconds, error)


def _held_back(current: Attempt, error: HeldBack) -> TryAgain:
    """Nothing was asked, so nothing is counted; who waits for the same layer is held back, too."""
    # Spread, so that not everybody comes at the same moment.
    delay_seconds = (error.retry_after_seconds or 1.0) + random.uniform(0.0, 0.5)  # noqa: S311
    with current.resources.catalog.begin() as tx:
        _lock(tx, current)
        _wait(tx, current, error, delay_seconds)
        release(tx, current)
    return TryAgain(delay_seconds, error)


def _lock(tx: Connection, current: Attempt) -> None:
    """Everybody whose row may change, by id and before any layer's: the order of every lock."""
    if current.transfer is None:
        pulls.lock(tx, current.pull_id)
    else:
        waiters.wanting(tx, current.transfer.registry, current.transfer.digest)


def _count(tx: Connection, current: Attempt) -> int:
    if current.digest is None:
        return pulls.count_failure(tx, current.pull_id)
    reached = current.transfer.progress.reached if current.transfer else 0
    return pull_layers.count_failure(tx, current.beneficiary, current.digest, reached)


def _share(
    tx: Connection, current: Attempt, error: TransientError, delay_seconds: float
) -> list[str]:
    """Pulls of the same repository that waited for this try have failed with it, unless it was
    this worker's own trouble. The ids of those whose budget is used up.
    """
    if current.digest is None or isinstance(error, VolumeFull | VolumeUnavailable):
        return []
    shared: Mapping[str, int] = dict(
        shared_failures.share(
            tx,
            current.beneficiary,
            current.digest,
            cause=_cause(error),
            detail=error.message,
            seconds=delay_seconds,
            whole_registry=isinstance(error, RateLimited),
        )
    )
    budget = _budget(current.resources, error)
    return [pull_id for pull_id, failures in shared.items() if failures >= budget]


def _wait(tx: Connection, current: Attempt, error: TransientError, delay_seconds: float) -> None:
    if current.digest is None:
        pulls.wait(tx, current.pull_id, _cause(error), delay_seconds, error.message)
        return
    pulls.say(tx, current.beneficiary, _cause(error), delay_seconds, error.message)
    pull_layers.wait(
        tx, current.beneficiary, current.digest, _cause(error), delay_seconds, error.message
    )


def _cause(error: TransientError) -> str:
    if isinstance(error, RateLimited):
        return "rate_limit"
    return "space" if isinstance(error, VolumeFull) else "backoff"


def _budget(resources: Resources, error: TransientError) -> int:
    if isinstance(error, DigestMismatch | SizeMismatch):
        return min(resources.settings.attempts, _MISMATCH_ATTEMPTS)
    return resources.settings.attempts


def _delay_seconds(failures: int, error: TransientError) -> float:
    """Exponential with full jitter; never sooner than the registry asked for."""
    ceiling = min(_FIRST_DELAY_SECONDS * 2.0 ** (failures - 1), _LONGEST_DELAY_SECONDS)
    delay_seconds = ceiling * random.uniform(0.5, 1.0)  # noqa: S311 - spread, not secrecy
    if error.retry_after_seconds is not None:
        asked_seconds = min(error.retry_after_seconds, _LONGEST_ASKED_SECONDS)
        delay_seconds = max(delay_seconds, asked_seconds)
    return delay_seconds

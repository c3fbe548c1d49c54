"""How a step can end, and what each end means: the class of the error decides.

`running.py` carries the outcome out, and `workers/tasks.py` maps what leaves a step to Celery.
"""

from enum import Enum

from shared.errors import (
    BlobTruncated,
    CatalogUnavailable,
    DigestMismatch,
    HeldBack,
    PermanentError,
    RateLimited,
    SizeMismatch,
    TransientError,
    VolumeFull,
)

# A wait of up to this long is a message in a worker's memory (Celery's retry with a countdown). A
# longer one is a row in PostgreSQL, and the reconciler sends the message when its time has come.
LONGEST_IN_MEMORY_SECONDS = 15.0

# Seconds until a pull or layer is tried again that is paused, or has no space. `towline resume`
# makes it due at once.
PAUSED_SECONDS = 60.0
SPACE_SECONDS = 15.0


class TryAgain(Exception):
    """The step must run again in `delay_seconds`, because of the error `cause`.

    Without a cause nothing was done, and that is not a failure. `at_most_once`: a message that was
    retried before, for whatever reason, ends instead.
    """

    def __init__(
        self,
        delay_seconds: float,
        cause: TransientError | None = None,
        *,
        at_most_once: bool = False,
    ) -> None:
        super().__init__(delay_seconds, cause)
        self.delay_seconds = delay_seconds
        self.cause = cause
        self.at_most_once = at_most_once

    @property
    def in_memory(self) -> bool:
        """Whether the message stays in a worker's memory. If not, the reconciler sends another."""
        return self.at_most_once or self.delay_seconds <= LONGEST_IN_MEMORY_SECONDS


class Stopped(Exception):
    """A step was stopped from outside. The subclass says why. It is not a failure."""


class LeaseLost(Stopped):
    """Another worker has taken the lease: this one must touch neither the ingest nor the row."""


class NotWanted(Stopped):
    """No open pull wants the layer any more."""


class Paused(Stopped):
    """Every pull that wants the layer is paused."""


class StoredElsewhere(Stopped):
    """The same blob was fetched from another registry first."""


class ShuttingDown(Stopped):
    """This worker is shutting down; another one continues the layer."""


class NodeSick(ShuttingDown):
    """This node cannot work now: its messages go back to the queue for other nodes."""


class Outcome(Enum):
    """What happens after a step has ended with an exception."""

    FAIL = "the pull fails with the error"
    COUNT = "a failure is counted, and the step runs again until the budget is used up"
    POSTPONE = "the step waits, and nothing is counted"
    OUTAGE = "nothing can be counted, and the step runs again"
    RELEASE = "the leases are released, and nothing is counted"
    NOTHING = "nothing is recorded: the new owner of the lease decides"


# The first class that matches counts. COUNT and OUTAGE come after a probe of this node
# (`workers/health`): the messages of a sick node go back to the queue for other nodes instead.
_OUTCOMES: tuple[tuple[type[BaseException], Outcome], ...] = (
    (LeaseLost, Outcome.NOTHING),
    (Stopped, Outcome.RELEASE),
    (TryAgain, Outcome.RELEASE),
    (PermanentError, Outcome.FAIL),
    # The rate limiter kept the request back: nothing was sent.
    (HeldBack, Outcome.POSTPONE),
    # Full for every node, and not the pull's fault.
    (VolumeFull, Outcome.POSTPONE),
    (CatalogUnavailable, Outcome.OUTAGE),
    (TransientError, Outcome.COUNT),
    # Not foreseen: it counts as an InternalError, and its traceback is logged.
    (Exception, Outcome.COUNT),
    # The process is being ended. The next owner need not wait for the leases to expire.
    (BaseException, Outcome.RELEASE),
)


def outcome_of(error: BaseException) -> Outcome:
    """Return what the class of this error means."""
    return next(outcome for kind, outcome in _OUTCOMES if isinstance(error, kind))


def may_be_the_node(error: BaseException) -> bool:
    """Whether this node may be the cause. Not if the registry has answered: the node works then."""
    return not isinstance(error, RateLimited | BlobTruncated | DigestMismatch | SizeMismatch)

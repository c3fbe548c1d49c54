"""Run a step of a pull. The class of the error that ends it decides what happens next.

permanent error                the pull fails
transient error                the failure is counted, and the step runs again   (retrying.py)
unexpected exception           the same, as InternalError; the traceback is logged
either of these, sick node     nothing is counted, the message goes back   (workers/health/)
host over its limit            nothing is counted, the step waits            (retrying.py)
database unreachable           nothing can be counted, the step runs again
lost lease                     nothing is recorded: the new owner decides
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from shared.errors import (
    BlobTruncated,
    CatalogUnavailable,
    DigestMismatch,
    HeldBack,
    InternalError,
    PermanentError,
    RateLimited,
    SizeMismatch,
    TransientError,
    VolumeFull,
)
from shared.oci.digest import Digest
from shared.pulls.context import Context
from shared.pulls.outbox import Outbox
from shared.pulls.steps import retrying
from shared.pulls.steps.attempts import Attempt, Postponed, TryAgain, fail_attempt, release_leases
from shared.pulls.steps.interruptions import LeaseLost, NodeSick, Stopped

_log = logging.getLogger(__name__)

# The registry's answer, or a volume that is full for every node: this node cannot be the cause, so
# it is not probed.
_FROM_OUTSIDE = (RateLimited, BlobTruncated, DigestMismatch, SizeMismatch, VolumeFull)


@contextmanager
def run_step(
    resources: Context, pull_id: str, outbox: Outbox, digest: Digest | None = None
) -> Iterator[Attempt]:
    """Run the block as one attempt at a step of the pull.

    If the attempt loses its lease, the block ends without an exception. Raises TryAgain, NodeSick,
    Stopped, Postponed, or the error after failing the pull with it.
    """
    current = Attempt(resources, pull_id, outbox, digest)
    # The new owner of the lease reports how the step ends.
    with suppress(LeaseLost), _judged(current):
        yield current


@contextmanager
def _judged(current: Attempt) -> Iterator[None]:
    try:
        yield
    except PermanentError as error:
        fail_attempt(current, error)
        raise
    except TransientError as error:
        raise _again(current, error) from error
    except (Stopped, Postponed):
        _let_go_quietly(current)
        raise
    except Exception as error:
        _log.exception("An unexpected exception stopped a step of the pull %s.", current.pull_id)
        raise _again(current, _internal(current, error)) from error
    except BaseException:
        # The process is being ended. Release the leases, so that the next owner need not wait.
        _let_go_quietly(current)
        raise


def _again(current: Attempt, error: TransientError) -> TransientError | TryAgain | NodeSick:
    if isinstance(error, HeldBack):
        return retrying.postpone(current, error)
    trouble = None if isinstance(error, _FROM_OUTSIDE) else current.resources.node_trouble()
    if trouble is not None:
        _let_go_quietly(current)
        return NodeSick(trouble)
    if isinstance(error, CatalogUnavailable):
        _let_go_quietly(current)
        return retrying.outage(error)
    return retrying.again(current, error)


def _internal(current: Attempt, error: Exception) -> InternalError:
    return InternalError(
        f"An unexpected {type(error).__name__} stopped a step of this pull: look for the traceback "
        f"in the log of the worker {current.resources.owner}."
    )


def _let_go_quietly(current: Attempt) -> None:
    """Release the leases without recording anything. Those that cannot be released now expire."""
    with suppress(CatalogUnavailable, LeaseLost):
        release_leases(current)

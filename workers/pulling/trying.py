"""A step is tried: the class of the error that ends it decides what comes of it.

permanent            the pull fails
transient            a counted try, then another one          (retrying.py)
not foreseen         the same, as InternalError; the traceback stands in the log
either, sick node    nothing is counted, the message is given back  (workers/health/)
the lease was lost   nothing at all: the new owner decides
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
from workers.pulling import retrying
from workers.pulling.attempts import Attempt, Postponed, TryAgain, fail_attempt, let_go
from workers.pulling.outbox import Outbox
from workers.pulling.stops import LeaseLost, NodeSick, Stopped
from workers.resources import Resources

_log = logging.getLogger(__name__)

# What a registry sent, or a volume that is full for all: no node is at fault.
_FROM_OUTSIDE = (RateLimited, BlobTruncated, DigestMismatch, SizeMismatch, VolumeFull)


@contextmanager
def attempt(
    resources: Resources, pull_id: str, outbox: Outbox, digest: Digest | None = None
) -> Iterator[Attempt]:
    """Run a step of a pull; one that has lost its lease ends here, without a word.

    Raises TryAgain, NodeSick, or the error after the pull was failed with it.
    """
    current = Attempt(resources, pull_id, outbox, digest)
    # What this tells is told by the new owner.
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
        _log.exception("An exception that was not foreseen stopped a step of %s.", current.pull_id)
        raise _again(current, _internal(current, error)) from error
    except BaseException:
        # The process is told to end: the next owner goes on at once.
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
    """The leases that cannot be given back now expire by themselves."""
    with suppress(CatalogUnavailable, LeaseLost):
        let_go(current)

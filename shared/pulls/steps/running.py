"""Run an attempt at a step: whatever ends it, its outcome (`outcomes.py`) is carried out here."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from shared.errors import CatalogUnavailable, InternalError, TowlineError, TransientError
from shared.pulls.context import Context
from shared.pulls.steps import retrying
from shared.pulls.steps.attempt import Attempt, fail_attempt, release_leases
from shared.pulls.steps.outcomes import (
    LeaseLost,
    NodeSick,
    Outcome,
    may_be_the_node,
    outcome_of,
)

_log = logging.getLogger(__name__)


@contextmanager
def run_attempt(attempt: Attempt) -> Iterator[None]:
    """Run the block as this attempt.

    If the attempt loses its lease, the block ends without an exception: the new owner reports how
    the step ends. Raises TryAgain, Stopped, or the error after failing the pull with it.
    """
    with suppress(LeaseLost):
        try:
            yield
        except BaseException as error:
            ended = _carry_out(attempt, error)
            if ended is error:
                raise
            raise ended from error


def _carry_out(attempt: Attempt, error: BaseException) -> BaseException:
    """Do what the outcome says. Returns what the step raises."""
    outcome = outcome_of(error)
    if outcome is Outcome.COUNT and not isinstance(error, TowlineError):
        _log.exception("An unexpected exception stopped a step of the pull %s.", attempt.pull_id)
        error = _internal(attempt.context, error)
    if outcome in {Outcome.COUNT, Outcome.OUTAGE} and may_be_the_node(error):
        trouble = attempt.context.node_trouble()
        if trouble is not None:
            _release_quietly(attempt)
            return NodeSick(trouble)
    match outcome, error:
        case Outcome.FAIL, TowlineError():
            fail_attempt(attempt, error)
        case Outcome.COUNT, TransientError():
            return retrying.count(attempt, error)
        case Outcome.POSTPONE, TransientError():
            return retrying.postpone(attempt, error)
        case Outcome.OUTAGE, TransientError():
            _release_quietly(attempt)
            return retrying.outage(error)
        case Outcome.RELEASE, _:
            _release_quietly(attempt)
        case Outcome.NOTHING, _:
            pass
    return error


def _internal(context: Context, error: BaseException) -> InternalError:
    return InternalError(
        f"An unexpected {type(error).__name__} stopped a step of this pull: look for the traceback "
        f"in the log of the worker {context.owner}."
    )


def _release_quietly(attempt: Attempt) -> None:
    """Release the leases without recording anything. Those that cannot be released now expire."""
    with suppress(CatalogUnavailable, LeaseLost):
        release_leases(attempt)

"""A step is tried: the class of the error that ends it decides what comes of it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from shared.errors import (
    CatalogUnavailable,
    HeldBack,
    PermanentError,
    TowlineError,
    TransientError,
)
from shared.oci.digest import Digest
from workers.pulling import retrying
from workers.pulling.attempts import Attempt, Postponed, fail_attempt, let_go
from workers.pulling.outbox import Outbox
from workers.pulling.stops import Stopped
from workers.resources import Resources


@contextmanager
def attempt(
    resources: Resources, pull_id: str, outbox: Outbox, digest: Digest | None = None
) -> Iterator[Attempt]:
    """Run a step of a pull. Raises TryAgain, or the error after the pull was failed with it."""
    current = Attempt(resources, pull_id, outbox, digest)
    try:
        yield current
    except CatalogUnavailable as error:
        with suppress(CatalogUnavailable):
            let_go(current)
        raise retrying.outage(error) from error
    except HeldBack as error:
        raise retrying.held_back(current, error) from error
    except TransientError as error:
        raise retrying.again(current, error) from error
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

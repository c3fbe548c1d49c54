"""The lease on a pull's own steps: resolving and linking are done by one process at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.catalog import beginnings, pulls, step_leases
from shared.catalog.beginnings import Begun
from shared.catalog.pull_values import Pull
from shared.catalog.step_leases import StepLease
from shared.errors import CatalogUnavailable, PoisonLayer
from workers.resources import Resources

# So many owners in a row may die in a step before the pull is to blame.
POISON_STARTS = 5


class Holding:
    """A lease on a pull's steps, held by this process. `pull`: as it stood then, None where nobody
    recorded it. `is_over`: the lease went with the last step; `beat()`: a sign of life, for a step
    that may take long.
    """

    def __init__(self, lease: StepLease, pull: Pull | None) -> None:
        self.fence = lease.fence
        self.pull = pull
        self.is_over = False
        self.beat: Callable[[], None] = lambda: None


@contextmanager
def step(resources: Resources, pull_id: str) -> Iterator[Holding | None]:
    """Do a step of a pull alone; None while somebody else is at it.

    Raises PoisonLayer for a pull whose steps end their workers.
    """
    with resources.catalog.begin() as tx:
        lease = step_leases.take(
            tx, step_leases.of_pull(pull_id), resources.owner, resources.settings.lease_seconds
        )
        pull = pulls.get(tx, pull_id) if lease is not None else None
    if lease is None:
        yield None
        return
    with holding(resources, pull_id, lease, pull) as held:
        yield held


@contextmanager
def holding(
    resources: Resources, pull_id: str, lease: StepLease, pull: Pull | None
) -> Iterator[Holding]:
    """Keep a lease that was taken while the step runs, and end it. Raises PoisonLayer."""
    held = Holding(lease, pull)
    try:
        if lease.starts > POISON_STARTS:
            raise PoisonLayer(
                f"Resolving or linking the pull {pull_id} ended its worker {lease.starts} times in "
                "a row: look into the workers' logs, then `towline retry` it."
            )
        with resources.keeper.keeping_step(lease) as held.beat:
            yield held
    finally:
        if not held.is_over:
            _end(resources, lease.fence)


def begin(resources: Resources, pull_id: str) -> Begun | None:
    """Begin to resolve a pull; None for one that is further, paused or over, or that somebody else
    is at.
    """
    try:
        with resources.catalog.begin() as tx:
            begun = beginnings.begin(
                tx,
                pull_id,
                owner=resources.owner,
                lease_seconds=resources.settings.lease_seconds,
                platform=str(resources.default_platform),
            )
            if begun is None:
                # With the transaction goes the lease that it may have taken.
                raise _NotBegunError
            return begun
    except _NotBegunError:
        return None


class _NotBegunError(Exception):
    pass


def _end(resources: Resources, fence: int) -> None:
    try:
        with resources.catalog.begin() as tx:
            step_leases.end(tx, fence)
    except CatalogUnavailable:
        # It expires by itself.
        return

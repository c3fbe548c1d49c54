"""The lease on a pull's own steps: resolving and linking are done by one process at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.catalog import beginnings, pulls, step_leases
from shared.catalog.beginnings import Begun
from shared.catalog.pull_values import Pull
from shared.catalog.step_leases import StepLease
from shared.errors import CatalogUnavailable, PoisonLayer
from workers.pulling.attempts import Attempt
from workers.resources import Resources

# This number of owners in a row may die in a step before the pull is to blame.
POISON_STARTS = 5


class Holding:
    """A lease on a pull's steps, held by this process. `pull`: as it stood then, None where no row
    stands. `is_over`: the lease went with the last step; `beat()`: a sign of life, before anything
    is written and while a step takes long. It raises LeaseLost.
    """

    def __init__(self, lease: StepLease, pull: Pull | None) -> None:
        self.fence = lease.fence
        self.pull = pull
        self.is_over = False
        self.beat: Callable[[], None] = lambda: None


@contextmanager
def step(current: Attempt) -> Iterator[Holding | None]:
    """Do a step of a pull alone; None while another process is at it.

    Raises PoisonLayer for a pull whose steps end their workers.
    """
    resources, pull_id = current.resources, current.pull_id
    with resources.catalog.begin() as tx:
        lease = step_leases.take(
            tx, step_leases.of_pull(pull_id), resources.owner, resources.settings.lease_seconds
        )
        pull = pulls.get(tx, pull_id) if lease is not None else None
    if lease is None:
        yield None
        return
    with holding(current, lease, pull) as held:
        yield held


@contextmanager
def holding(current: Attempt, lease: StepLease, pull: Pull | None) -> Iterator[Holding]:
    """Keep a lease that was taken while the step runs, and end it; where the step fails, it ends
    with the transaction that says so. Raises PoisonLayer.
    """
    held = Holding(lease, pull)
    current.step = lease.fence
    if lease.starts > POISON_STARTS:
        raise PoisonLayer(
            f"Resolving or linking the pull {current.pull_id} ended its worker {lease.starts} "
            "times in a row: look into the workers' logs, then `towline retry` it."
        )
    with current.resources.keeper.keeping_step(lease) as held.beat:
        yield held
    current.step = None
    if not held.is_over:
        _end(current.resources, lease.fence)


def begin(resources: Resources, pull_id: str) -> Begun | None:
    """Begin to resolve a pull; None for one that is further, paused or over, or that another
    process is at.
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

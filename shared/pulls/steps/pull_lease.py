"""The lease on a pull's own steps: one process at a time resolves or links a pull."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shared.catalog.fleet import step_leases
from shared.catalog.fleet.step_leases import StepLease
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import lifecycle, start
from shared.catalog.pulls.start import StartedPull
from shared.errors import CatalogUnavailable, PoisonLayer
from shared.pulls.context import Context
from shared.pulls.steps.attempts import Attempt

# If more than this number of workers in a row die during a pull's step, or while they fetch a
# layer, then that pull or layer counts as the cause, and fails.
MOST_DEAD_OWNERS = 5


class HeldLease:
    """A lease on a pull's steps, held by this process.

    `pull`: its row when the lease was taken; None if there is none. `is_over`: the step's last
    transaction has already ended the lease. `beat()`: a sign of life that raises LeaseLost. Call it
    before each write, and from time to time during a long step.
    """

    def __init__(self, lease: StepLease, pull: Pull | None) -> None:
        self.fence = lease.fence
        self.pull = pull
        self.is_over = False
        self.beat: Callable[[], None] = lambda: None


@contextmanager
def hold_lease(current: Attempt) -> Iterator[HeldLease | None]:
    """Hold the lease on a pull's steps during the block; yield None if another process holds it.

    Raises PoisonLayer if too many workers in a row died during this pull's steps.
    """
    resources, pull_id = current.resources, current.pull_id
    with resources.catalog.begin() as tx:
        lease = step_leases.take(
            tx, step_leases.of_pull(pull_id), resources.owner, resources.settings.lease_seconds
        )
        pull = lifecycle.get(tx, pull_id) if lease is not None else None
    if lease is None:
        yield None
        return
    with renew_lease(current, lease, pull) as held:
        yield held


@contextmanager
def renew_lease(current: Attempt, lease: StepLease, pull: Pull | None) -> Iterator[HeldLease]:
    """Renew a lease while the block runs, then end it.

    If the block raises, the lease is left alone: it is released by the transaction that records the
    failure (`attempts.release`). Raises PoisonLayer if too many of its owners in a row have died.
    """
    held = HeldLease(lease, pull)
    current.step_fence = lease.fence
    if lease.starts > MOST_DEAD_OWNERS:
        raise PoisonLayer(
            f"Resolving or linking the pull {current.pull_id} ended its worker {lease.starts} "
            "times in a row: look into the workers' logs, then run `towline retry` for this pull."
        )
    with current.resources.renewer.renewing_step(lease) as held.beat:
        yield held
    current.step_fence = None
    if not held.is_over:
        _end(current.resources, lease.fence)


def begin(resources: Context, pull_id: str) -> StartedPull | None:
    """Take the lease and start resolving the pull, in one statement.

    None if the pull is paused, past resolving or ended, or if another process holds its lease.
    """
    try:
        with resources.catalog.begin() as tx:
            begun = start.start_resolving(
                tx,
                pull_id,
                owner=resources.owner,
                lease_seconds=resources.settings.lease_seconds,
                platform=str(resources.default_platform),
            )
            if begun is None:
                # The statement may have taken the lease: roll it back.
                raise _NotBegunError
            return begun
    except _NotBegunError:
        return None


class _NotBegunError(Exception):
    pass


def _end(resources: Context, fence: int) -> None:
    try:
        with resources.catalog.begin() as tx:
            step_leases.end(tx, fence)
    except CatalogUnavailable:
        # The lease expires by itself.
        return

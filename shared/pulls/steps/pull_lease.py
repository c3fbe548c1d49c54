"""The lease on a pull's own steps: one process at a time resolves or links a pull."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from shared.catalog.fleet import step_leases
from shared.catalog.fleet.step_leases import StepLease
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import lifecycle, start
from shared.catalog.pulls.start import StartedPull
from shared.errors import CatalogUnavailable, PoisonLayer
from shared.pulls.context import Context
from shared.pulls.outbox import Outbox
from shared.pulls.steps.attempt import Attempt
from shared.pulls.steps.running import run_attempt

# If more than this number of workers in a row die during a pull's step, or while they fetch a
# layer, then that pull or layer counts as the cause, and fails.
MOST_DEAD_OWNERS = 5


class HeldLease:
    """A lease on a pull's steps, held by this process.

    `pull`: the pull's row when the lease was taken; None if it has none. `is_over`: the step's last
    transaction has already ended the lease. `beat()`: a sign of life that raises LeaseLost. Call it
    before each write, and from time to time during a long step.
    """

    def __init__(self, lease: StepLease, pull: Pull | None, beat: Callable[[], None]) -> None:
        self.fence = lease.fence
        self.pull = pull
        self.beat = beat
        self.is_over = False


@contextmanager
def hold_lease(context: Context, pull_id: str, outbox: Outbox) -> Iterator[HeldLease | None]:
    """Run the block as an attempt that holds the lease on a pull's steps.

    Yields None if another process holds it. The block ends without an exception if the lease is
    lost. Raises what `run_attempt` raises, such as PoisonLayer if too many workers in a row died
    during this pull's steps.
    """
    attempt = Attempt(context, pull_id, outbox)
    lease, pull = None, None
    with run_attempt(attempt), context.catalog.begin() as tx:
        lease = step_leases.take(
            tx, step_leases.of_pull(pull_id), context.owner, context.settings.lease_seconds
        )
        pull = lifecycle.get(tx, pull_id) if lease is not None else None
    if lease is None:
        yield None
        return
    with _attempt_under(attempt, lease, pull) as held:
        yield held


@contextmanager
def start_resolving(
    context: Context, pull_id: str, outbox: Outbox
) -> Iterator[tuple[StartedPull, HeldLease] | None]:
    """Do what `hold_lease` does, and begin to resolve the pull in the same statement.

    Yields None if the pull is paused, past resolving or ended, or if another process holds its
    lease.
    """
    attempt = Attempt(context, pull_id, outbox)
    started = None
    with run_attempt(attempt):
        started = _start(context, pull_id)
    if started is None:
        yield None
        return
    with _attempt_under(attempt, started.lease, started.pull) as held:
        yield (started, held) if held is not None else None


@contextmanager
def _attempt_under(
    attempt: Attempt, lease: StepLease, pull: Pull | None
) -> Iterator[HeldLease | None]:
    """Run the block under this lease, then end the lease.

    Yields None if the lease was lost before the block could begin. If the block raises, the
    transaction that records the failure ends the lease (`attempt.release`).
    """
    held: HeldLease | None = None
    with run_attempt(attempt.with_step_lease(lease.fence)):
        if lease.starts > MOST_DEAD_OWNERS:
            raise PoisonLayer(
                f"Resolving or linking the pull {attempt.pull_id} ended its worker {lease.starts} "
                "times in a row: look into the workers' logs, then run `towline retry` for this "
                "pull."
            )
        with attempt.context.renewer.renewing_step(lease) as beat:
            held = HeldLease(lease, pull, beat)
            yield held
    if held is None:
        yield None
    elif not held.is_over:
        _end(attempt.context, lease.fence)


def _start(context: Context, pull_id: str) -> StartedPull | None:
    try:
        with context.catalog.begin() as tx:
            started = start.start_resolving(
                tx,
                pull_id,
                owner=context.owner,
                lease_seconds=context.settings.lease_seconds,
                platform=str(context.default_platform),
            )
            if started is None:
                # The statement may have taken the lease: roll it back.
                raise _NotStartedError
            return started
    except _NotStartedError:
        return None


class _NotStartedError(Exception):
    pass


def _end(context: Context, fence: int) -> None:
    # While the database is unavailable, the lease expires by itself.
    with suppress(CatalogUnavailable), context.catalog.begin() as tx:
        step_leases.end(tx, fence)

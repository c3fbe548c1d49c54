"""One attempt at a step of a pull, and how it gives back its leases.

If a layer fails, one transaction records the failure, releases the lease and hands the layer over
to the best pull that waits for it, which continues with the same bytes. The first cause of a
failure wins.

An attempt that has lost its lease must not record anything: the new owner decides. Therefore each
transaction releases the lease last. If the lease is held under another fence by then, LeaseLost
rolls the whole transaction back.

`fail_attempt`, `hand_over_layer` and `release_leases` are transactions of their own; `fail_row`,
`hand_over` and `release` are the parts of one that they and `retrying.py` are made of.
"""

from dataclasses import dataclass, replace

from shared.catalog.database.catalog import Connection
from shared.catalog.fleet import step_leases
from shared.catalog.layers import layer_slots, leases, waiters
from shared.catalog.layers.messages import LayerMessage
from shared.catalog.pulls import finish
from shared.errors import TowlineError
from shared.oci.digest import Digest
from shared.pulls.context import Context
from shared.pulls.outbox import Outbox
from shared.pulls.steps.leased_layer import LeasedLayer
from shared.pulls.steps.outcomes import LeaseLost


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a step of a pull, and the lease that it holds.

    `digest`: the layer that the step fetches; None for a step of the pull itself. `leased`: that
    layer under its lease. `step_fence`: the fence of the lease on the pull's steps.
    """

    context: Context
    pull_id: str
    outbox: Outbox
    digest: Digest | None = None
    leased: LeasedLayer | None = None
    step_fence: int | None = None

    def with_lease(self, leased: LeasedLayer) -> "Attempt":
        """Return this attempt with the lease on a layer."""
        return replace(self, digest=leased.digest, leased=leased)

    def with_step_lease(self, fence: int) -> "Attempt":
        """Return this attempt with the lease on the pull's steps."""
        return replace(self, step_fence=fence)

    @property
    def fetched_for(self) -> str:
        """The pull that the bytes are fetched for now.

        Differs from `pull_id` once that pull has ended and a waiting one has taken its place.
        """
        return self.leased.pull_id if self.leased else self.pull_id

    @property
    def is_fetched_for_another(self) -> bool:
        """Whether the bytes are now fetched for another pull. A failure with this pull's repository
        and credentials says nothing about that one.
        """
        return self.fetched_for != self.pull_id


def fail_attempt(attempt: Attempt, error: TowlineError) -> None:
    """Fail the pull with this error, and hand its layer over to the best pull that waits for it.

    If the bytes are fetched for another pull by now, they are handed over and no pull fails.
    Raises LeaseLost.
    """
    if attempt.is_fetched_for_another:
        hand_over_layer(attempt)
        return
    with attempt.context.catalog.begin() as tx:
        fail_row(tx, attempt.pull_id, error)
        attempt.outbox.layers += hand_over(tx, attempt, but=attempt.pull_id)
    attempt.outbox.end([attempt.pull_id])


def fail_row(tx: Connection, pull_id: str, error: TowlineError) -> None:
    """Fail the pull's row with this error, unless it has ended already."""
    finish.fail(tx, pull_id, type(error).__name__, error.code, error.message)


def hand_over_layer(attempt: Attempt) -> None:
    """Hand the layer over, and count nothing.

    It is now fetched for another pull, and a failure with this pull's repository says nothing about
    that one. Raises LeaseLost.
    """
    with attempt.context.catalog.begin() as tx:
        attempt.outbox.layers += hand_over(tx, attempt, but=attempt.pull_id)


def hand_over(tx: Connection, attempt: Attempt, but: str) -> list[LayerMessage]:
    """Release the leases, and return the message for what can go on.

    That is this layer, for the best pull that waits for it, except the pull `but`. If there is
    none, the slot is free, and the best layer that waits for one goes on. Raises LeaseLost.
    """
    leased = attempt.leased
    due: list[LayerMessage] = []
    if leased is not None:
        due = waiters.dispatch_next_waiter(tx, leased.registry, leased.digest, but)
        due = due or layer_slots.dispatch_waiting_for_slot(tx)
    # Leases come last in the lock order.
    release(tx, attempt)
    return due


def release_leases(attempt: Attempt) -> None:
    """Release the leases without recording a failure: the message comes back. Raises LeaseLost."""
    if attempt.leased is None and attempt.step_fence is None:
        return
    with attempt.context.catalog.begin() as tx:
        release(tx, attempt)


def release(tx: Connection, attempt: Attempt) -> None:
    """Release the leases. The row of a layer's lease keeps how far its ingest is.

    Call it last in a transaction: it raises LeaseLost if a lease is held under another fence, and
    that must roll back everything written before.
    """
    step, leased = attempt.step_fence, attempt.leased
    if step is not None and not step_leases.end(tx, step):
        raise LeaseLost(f"Another worker has taken the pull {attempt.pull_id} over.")
    if leased is not None and not leases.release(
        tx, leased.registry, leased.digest, leased.fence, leased.progress.offset
    ):
        raise LeaseLost(f"Another worker has taken {leased.digest} over.")

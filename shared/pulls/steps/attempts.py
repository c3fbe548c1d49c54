"""One attempt at a step, and how it gives back its leases.

If a layer fails, one transaction records the failure, releases the lease and hands the layer over
to the best pull that waits for it, which continues with the same bytes. The first cause of a
failure wins.

An attempt that has lost its lease must not record anything: the new owner decides. Therefore each
transaction releases the lease last. If the lease is held under another fence by then, LeaseLost
rolls the whole transaction back.
"""

from dataclasses import dataclass, field

from shared.catalog.database.catalog import Connection
from shared.catalog.fleet import step_leases
from shared.catalog.layers import layer_slots, leases, waiters
from shared.catalog.layers.messages import LayerMessage
from shared.catalog.pulls import finish
from shared.errors import TowlineError, TransientError
from shared.oci.digest import Digest
from shared.pulls.context import Context
from shared.pulls.layers.bytes_fetched import Transfer
from shared.pulls.layers.diff_id_check import DiffIdCheck
from shared.pulls.outbox import Outbox
from shared.pulls.steps.interruptions import LeaseLost

# A wait of up to this long is a message in a worker's memory (Celery's retry with a countdown). A
# longer one is a row in PostgreSQL, and the reconciler sends the message when its time has come.
LONGEST_IN_MEMORY_SECONDS = 15.0


class Postponed(Exception):
    """The step did nothing, for a reason that is not a failure. Its message comes again."""


class TryAgain(Exception):
    """The step must run again in `delay_seconds`, because of the error `cause`."""

    def __init__(self, delay_seconds: float, cause: TransientError) -> None:
        super().__init__(delay_seconds, cause)
        self.delay_seconds = delay_seconds
        self.cause = cause

    @property
    def in_memory(self) -> bool:
        """Whether the wait is short enough to stay a message in a worker's memory."""
        return self.delay_seconds <= LONGEST_IN_MEMORY_SECONDS


@dataclass(slots=True)
class Attempt:
    """One attempt at a step of a pull.

    `transfer`: its download, once it holds the lease of the layer. `step_fence`: the fence of its
    lease on the pull's steps, while it holds that.
    """

    resources: Context
    pull_id: str
    outbox: Outbox
    digest: Digest | None = None
    transfer: Transfer | None = field(default=None)
    step_fence: int | None = field(default=None)
    # Bytes on the volume that the next attempt can continue from.
    kept_bytes: int = field(default=0)
    # The check of the layer's diff_id, if diff_ids are verified.
    proof: DiffIdCheck | None = field(default=None)
    # Whether another pull may be waiting for the slot that this attempt occupies.
    frees_slot: bool = field(default=True)
    # Whether its pull is urgent, and so goes ahead of everything that is queued.
    is_urgent: bool = field(default=False)

    @property
    def fetched_for(self) -> str:
        """The pull that the bytes are fetched for now.

        Differs from `pull_id` once that pull has ended and a waiting one has taken its place.
        """
        return self.transfer.pull_id if self.transfer else self.pull_id

    @property
    def is_fetched_for_another(self) -> bool:
        """Whether the bytes are now fetched for another pull. A failure with this pull's repository
        and credentials says nothing about that one.
        """
        return self.fetched_for != self.pull_id


def fail(resources: Context, pull_id: str, error: TowlineError, outbox: Outbox) -> None:
    """Fail the pull with this error, unless it has ended already, and have it answered."""
    with resources.catalog.begin() as tx:
        fail_row(tx, pull_id, error)
    outbox.end([pull_id])


def fail_attempt(current: Attempt, error: TowlineError) -> None:
    """Fail the pull with this error, and hand its layer over to the best pull that waits for it.

    If the bytes are fetched for another pull by now, they are handed over and no pull fails.
    Raises LeaseLost.
    """
    if current.is_fetched_for_another:
        hand_over_layer(current)
        return
    with current.resources.catalog.begin() as tx:
        fail_row(tx, current.pull_id, error)
        current.outbox.layers += hand_over(tx, current, but=current.pull_id)
    current.outbox.end([current.pull_id])


def hand_over_layer(current: Attempt) -> None:
    """Hand the layer over to the pull that it is now fetched for; nothing is counted.

    Raises LeaseLost.
    """
    with current.resources.catalog.begin() as tx:
        current.outbox.layers += hand_over(tx, current, but=current.pull_id)


def release_leases(current: Attempt) -> None:
    """Release the leases without recording a failure: the message comes back. Raises LeaseLost."""
    if current.transfer is None and current.step_fence is None:
        return
    with current.resources.catalog.begin() as tx:
        release(tx, current)


def fail_row(tx: Connection, pull_id: str, error: TowlineError) -> None:
    """Fail the pull's row with this error, unless it has ended already."""
    finish.fail(tx, pull_id, type(error).__name__, error.code, error.message)


def release(tx: Connection, current: Attempt) -> None:
    """Release the leases. The row of a layer's lease keeps how far its ingest is.

    Call it last in a transaction: it raises LeaseLost if a lease is held under another fence, and
    that must roll back everything written before.
    """
    step, transfer = current.step_fence, current.transfer
    if step is not None and not step_leases.end(tx, step):
        raise LeaseLost(f"Another worker has taken the pull {current.pull_id} over.")
    if transfer is not None and not leases.release(
        tx, transfer.registry, transfer.digest, transfer.fence, current.kept_bytes
    ):
        raise LeaseLost(f"Another worker has taken {transfer.digest} over.")


def hand_over(tx: Connection, current: Attempt, but: str) -> list[LayerMessage]:
    """Release the leases, and return the message for what can go on: the best pull that waits for
    this layer, except the pull `but`; if there is none, a layer that waits for a slot.

    Raises LeaseLost.
    """
    transfer = current.transfer
    due: list[LayerMessage] = []
    if transfer is not None:
        due = waiters.dispatch_next_waiter(tx, transfer.registry, transfer.digest, but)
        due = due or layer_slots.dispatch_waiting_for_slot(tx)
    # Leases come last in the lock order.
    release(tx, current)
    return due

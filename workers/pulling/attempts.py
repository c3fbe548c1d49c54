"""One try of one step, and how it gives back what it holds.

A layer that failed is handed over in the same transaction that says so: its lease is released, and
the best pull that also waits for it goes on with the same bytes. The first cause of a failure wins.

A try that has lost its lease may say nothing: the new owner decides. So the lease is given back
last, and where it is held under another fence by then, LeaseLost rolls the whole transaction back.
"""

from dataclasses import dataclass, field

from shared.catalog import ends, leases, step_leases, waiters
from shared.catalog.database import Connection
from shared.catalog.layer_messages import LayerMessage
from shared.errors import TowlineError, TransientError
from shared.oci.digest import Digest
from workers.pulling.outbox import Outbox
from workers.pulling.proving import Proof
from workers.pulling.stops import LeaseLost
from workers.pulling.tally import Transfer
from workers.resources import Resources

# What waits no longer than this may wait as a message in a worker's memory; the rest waits in
# PostgreSQL, and the reconciler sends it when its time has come.
LONGEST_IN_MEMORY_SECONDS = 15.0


class Postponed(Exception):
    """This step did nothing, for a reason that is no failure; its message comes again."""


class TryAgain(Exception):
    """This step has to run again in `delay_seconds`; `cause` says why."""

    def __init__(self, delay_seconds: float, cause: TransientError) -> None:
        super().__init__(delay_seconds, cause)
        self.delay_seconds = delay_seconds
        self.cause = cause

    @property
    def in_memory(self) -> bool:
        """Whether the message itself may wait."""
        return self.delay_seconds <= LONGEST_IN_MEMORY_SECONDS


@dataclass(slots=True)
class Attempt:
    """One try of one step. `transfer`: its download, once it holds the lease for it; `step`: the
    fence of the lease on the pull's steps, while it holds that.
    """

    resources: Resources
    pull_id: str
    outbox: Outbox
    digest: Digest | None = None
    transfer: Transfer | None = field(default=None)
    step: int | None = field(default=None)
    # Bytes on disk that a next try begins with.
    kept_bytes: int = field(default=0)
    # What its bytes uncompress to, where that is asked for.
    proof: Proof | None = field(default=None)
    # Whether another pull may wait for the slot that this one takes.
    frees_slot: bool = field(default=True)
    # Whether its pull goes before all that is queued.
    is_urgent: bool = field(default=False)

    @property
    def beneficiary(self) -> str:
        """The pull that the bytes are fetched for by now."""
        return self.transfer.pull_id if self.transfer else self.pull_id

    @property
    def is_for_another(self) -> bool:
        """Whether the bytes are fetched for another pull by now. What the repository, or the
        credentials, of this one came to says nothing about that one.
        """
        return self.beneficiary != self.pull_id


def fail(resources: Resources, pull_id: str, error: TowlineError, outbox: Outbox) -> None:
    """End the pull as failed with this cause, unless it has ended already."""
    with resources.catalog.begin() as tx:
        fail_row(tx, pull_id, error)
    outbox.end([pull_id])


def fail_attempt(current: Attempt, error: TowlineError) -> None:
    """End the pull with this cause, and hand its layer over to the best pull that waits for it.

    Raises LeaseLost.
    """
    if current.is_for_another:
        pass_on(current)
        return
    with current.resources.catalog.begin() as tx:
        fail_row(tx, current.pull_id, error)
        current.outbox.layers += hand_over(tx, current, but=current.pull_id)
    current.outbox.end([current.pull_id])


def pass_on(current: Attempt) -> None:
    """The pull that the bytes are fetched for by now goes on itself; nothing is counted.

    Raises LeaseLost.
    """
    with current.resources.catalog.begin() as tx:
        current.outbox.layers += hand_over(tx, current, but=current.pull_id)


def let_go(current: Attempt) -> None:
    """Release what is held, without a word about failure: the message comes back. Raises
    LeaseLost.
    """
    if current.transfer is None and current.step is None:
        return
    with current.resources.catalog.begin() as tx:
        release(tx, current)


def fail_row(tx: Connection, pull_id: str, error: TowlineError) -> None:
    """End the pull as failed with this cause, unless it has ended already."""
    ends.fail(tx, pull_id, type(error).__name__, error.code, error.message)


def release(tx: Connection, current: Attempt) -> None:
    """Give the leases back; the row of a layer keeps how far its ingest is. Raises LeaseLost: call
    it last, so that nothing stands that was written before it in this transaction.
    """
    step, transfer = current.step, current.transfer
    if step is not None and not step_leases.end(tx, step):
        raise LeaseLost(f"Another worker has taken the pull {current.pull_id} over.")
    if transfer is not None and not leases.release(
        tx, transfer.registry, transfer.digest, transfer.fence, current.kept_bytes
    ):
        raise LeaseLost(f"Another worker has taken {transfer.digest} over.")


def hand_over(tx: Connection, current: Attempt, but: str) -> list[LayerMessage]:
    """Release what is held, and make due what goes on: a pull that waits for this layer, `but` not
    this one, or else one that waits for a slot. Raises LeaseLost.
    """
    transfer = current.transfer
    due: list[LayerMessage] = []
    if transfer is not None:
        due = waiters.hand_over(tx, transfer.registry, transfer.digest, but)
        due = due or waiters.unpark(tx)
    # Leases are locked last, everywhere.
    release(tx, current)
    return due

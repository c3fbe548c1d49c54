"""Fetch one layer: from what is on the volume already to a verified blob and its row.

    lease ──► transfer ──► store ──► send what can go on
      │          │
      │          └ stopped or failed: the lease is released, and a waiter goes on
      └ blocked, or another task fetches the layer: it waits as a row

Of the task's arguments only the digest is trusted, and only if the pull lists it; sizes come from
the catalog. The file is published first and the row is written second. After a crash between the
two, the next attempt finds the file, hashes it and adopts it.

The holder of the lease fetches the layer for every pull that wants it. A task that finds the lease
taken ends at once, and its pull waits as a row.
"""

from collections.abc import Sequence

from shared.catalog.admission import pauses
from shared.catalog.admission.window import URGENT_PRIORITY
from shared.catalog.layers import layer_slots, pull_layers, storing
from shared.catalog.layers.fetch_state import FetchState
from shared.catalog.layers.storing import StoredLayer
from shared.catalog.pulls import lifecycle
from shared.oci.digest import Digest
from shared.pulls.context import Context
from shared.pulls.layers.blockers import reserves_slots
from shared.pulls.layers.leasing import check_size, lease_layers
from shared.pulls.layers.small_layer_fetch import fetch_batch
from shared.pulls.layers.transfer import Announce, FetchedLayer, transfer
from shared.pulls.linking import link_image
from shared.pulls.outbox import Outbox
from shared.pulls.steps.attempt import Attempt, hand_over
from shared.pulls.steps.leased_layer import LeasedLayer
from shared.pulls.steps.outcomes import (
    PAUSED_SECONDS,
    LeaseLost,
    NotWanted,
    Paused,
    ShuttingDown,
    Stopped,
    StoredElsewhere,
    TryAgain,
)
from shared.pulls.steps.running import run_attempt


def fetch_layer(
    context: Context, pull_id: str, digest: Digest, announce: Announce, outbox: Outbox
) -> None:
    """Fetch one layer of a pull, and other small layers of the pull with it.

    Does nothing if the layer is stored, if the pull has ended, or if another task fetches the
    layer. Raises TryAgain, ShuttingDown, or the error after failing the pull with it.
    """
    if context.claimed_layers.is_claimed(pull_id, digest):
        return
    attempt = Attempt(context, pull_id, outbox, digest)
    state: FetchState | None = None
    leased: list[LeasedLayer] = []
    with run_attempt(attempt):
        state, leased = lease_layers(attempt, digest, announce)
    if state is None or not leased:
        return
    fetched: list[FetchedLayer] = []
    companions = [layer.digest for layer in leased[1:]]
    # Up to the end of the link, the companions' own tasks yield to this one.
    with context.claimed_layers.fetching(pull_id, companions):
        leased_attempt = attempt.with_lease(leased[0])
        with run_attempt(leased_attempt):
            fetched = _transfer(leased_attempt, leased)
            _store(context, fetched)
        # The stored rows have ended the leases: the rest runs as the attempt without one.
        with run_attempt(attempt):
            _send_what_can_go_on(attempt, state, fetched)
            _check_claims(fetched)
        is_urgent = state.pull.priority >= URGENT_PRIORITY
        if (len(fetched) > 1 or is_urgent) and pull_id in outbox.links:
            _link_now(context, pull_id, outbox)


def _transfer(attempt: Attempt, leased: Sequence[LeasedLayer]) -> list[FetchedLayer]:
    """Bring the layers onto the volume while their leases are renewed.

    The list is empty if the download was stopped.
    """
    if len(leased) > 1 and (fetched := fetch_batch(attempt, leased)):
        return fetched
    own = leased[0]
    try:
        with attempt.context.renewer.renewing(own):
            return [transfer(attempt.context, own)]
    except (ShuttingDown, LeaseLost):
        raise
    except Stopped as reason:
        _record_stop(attempt, own, reason)
        return []


def _record_stop(attempt: Attempt, leased: LeasedLayer, reason: Stopped) -> None:
    """Record why a download was stopped, and hand the layer over where that helps.

    No failure is counted against any pull. Raises LeaseLost.
    """
    digest, pull_id, outbox = leased.digest, leased.pull_id, attempt.outbox
    with attempt.context.catalog.begin() as tx:
        match reason:
            case NotWanted():
                outbox.layers += hand_over(tx, attempt, but=pull_id)
            case Paused():
                pause = pauses.of_pull(tx, pull_id)
                sentence = pause.sentence if pause else "it was paused"
                lifecycle.show_waiting(tx, pull_id, "paused", PAUSED_SECONDS, sentence)
                pull_layers.wait(tx, pull_id, digest, "paused", PAUSED_SECONDS, sentence)
                outbox.layers += hand_over(tx, attempt, but=pull_id)
            case StoredElsewhere():
                # The row that says so has ended the leases of every registry.
                outbox.links += storing.find_whole_pulls(tx, [digest], pull_id)


def _store(context: Context, fetched: Sequence[FetchedLayer]) -> None:
    """Record the layers as stored, which ends the leases on them."""
    if not fetched:
        return
    take_unrecorded = context.renewer.fetched_bytes.take_unrecorded
    with context.catalog.begin() as tx:
        storing.store_layers(
            tx,
            [
                StoredLayer(
                    layer.leased.pull_id,
                    layer.leased.digest,
                    layer.size_bytes,
                    layer.source,
                    fetched_bytes=take_unrecorded(layer.leased),
                    diff_id=layer.check.diff_id if layer.check else None,
                )
                for layer in fetched
            ],
        )


def _send_what_can_go_on(
    attempt: Attempt, state: FetchState, fetched: Sequence[FetchedLayer]
) -> None:
    """Find the pulls that the stored layers complete, and the layer that gets the free slot.

    This transaction is a second one, which sees what other processes have stored by then. If the
    worker dies between the two, the reconciler finds these pulls. Completion is always decided by
    the same question: is a layer of this pull not stored? No counter is kept that could be wrong
    after a crash.
    """
    if not fetched:
        return
    outbox, reserved_slots = attempt.outbox, attempt.context.settings.reserved_slots
    with attempt.context.catalog.begin() as tx:
        digests = [layer.leased.digest for layer in fetched]
        outbox.links += storing.find_whole_pulls(tx, digests, fetched[0].leased.pull_id)
        if reserves_slots(state, reserved_slots):
            outbox.layers += layer_slots.dispatch_waiting_for_slot(tx)


def _check_claims(fetched: Sequence[FetchedLayer]) -> None:
    """Raises InvalidManifest if the pull's manifest claims another size or diff_id.

    The layers are stored all the same: the claim is wrong, not the blob.
    """
    for layer in fetched:
        check_size(layer.leased.layer, layer.size_bytes)
        if layer.check is not None:
            layer.check.check()


def _link_now(context: Context, pull_id: str, outbox: Outbox) -> None:
    """Link in this task: the pull's last layers came together, or the pull is urgent.

    A message for the link could wait behind everything that is queued. The body of the chord could
    wait behind header tasks that have nothing left to do.
    """
    outbox.links.remove(pull_id)
    try:
        link_image(context, pull_id, outbox)
    except TryAgain:
        outbox.links.append(pull_id)

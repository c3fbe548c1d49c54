"""Record layers as stored, and find the pulls that they complete.

There are two transactions. The first records the blobs as stored and ends the leases on them. The
second, which sees what other processes have stored by then, selects the pulls whose layers are all
stored now, one of each image. If the worker dies between the two, the reconciler finds these pulls.

Completion is always decided by the same question: is the number of layers of this pull that are not
stored 0? No counter is kept that could be wrong after a crash.
"""

from collections.abc import Sequence

from shared.catalog.layers import layer_slots, storing
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.layers.storing import Landing
from shared.errors import InvalidManifest
from shared.pulls.layers.leased_fetch import FetchedLayer
from shared.pulls.steps.attempts import Attempt


def record_stored(current: Attempt, arrivals: Sequence[FetchedLayer]) -> None:
    """Record layers that are on the volume, and put the pulls that can be linked into the outbox.

    Raises InvalidManifest if the pull's manifest claims another size or diff_id. The layers are
    recorded all the same: the claim is wrong, not the blob.
    """
    catalog, pull_id = current.resources.catalog, current.fetched_for
    with catalog.begin() as tx:
        storing.store_layers(tx, [_landing(arrival) for arrival in arrivals])
    for arrival in arrivals:
        # The transaction has ended the lease: nothing is left to release.
        arrival.attempt.transfer = None
    with catalog.begin() as tx:
        digests = [arrival.work.layer.digest for arrival in arrivals]
        current.outbox.links += storing.find_whole_pulls(tx, digests, pull_id)
        if current.frees_slot:
            current.outbox.layers += layer_slots.dispatch_waiting_for_slot(tx)
    for arrival in arrivals:
        check_claim(arrival.work.layer, arrival.size_bytes)
        if arrival.attempt.proof is not None:
            arrival.attempt.proof.check()


def _landing(arrival: FetchedLayer) -> Landing:
    current = arrival.attempt
    transfer, proof = current.transfer, current.proof
    return Landing(
        current.fetched_for,
        arrival.work.layer.digest,
        arrival.size_bytes,
        arrival.source,
        fetched_bytes=current.resources.renewer.tally.uncounted(transfer) if transfer else 0,
        diff_id=proof.diff_id if proof else None,
    )


def check_claim(layer: PullLayer, size_bytes: int) -> None:
    """Raises InvalidManifest if this pull's manifest claims another size than the blob has."""
    if size_bytes != layer.size_bytes:
        raise InvalidManifest(
            f"The manifest promises {layer.size_bytes} bytes for {layer.digest}, which has "
            f"{size_bytes}."
        )

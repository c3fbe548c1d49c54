"""Layers have come: their rows, and everybody who waits for them.

Two transactions. The first says that the blobs are stored, and ends the leases on them. The second
locks the pulls that list them, and tells which of those are whole now: the truth about completion
is "layers of this pull not yet stored = 0", whoever asks. A worker that dies between the two leaves
whole pulls that the reconciler finds.
"""

from collections.abc import Sequence

from shared.catalog import landings, waiters
from shared.catalog.landings import Landing
from shared.catalog.pull_layers import PullLayer
from shared.errors import InvalidManifest
from workers.pulling.arriving import Arrival
from workers.pulling.attempts import Attempt


def land(current: Attempt, arrivals: Sequence[Arrival]) -> None:
    """The layers are on the volume. Raises InvalidManifest where the pull's claim is wrong."""
    catalog, pull_id = current.resources.catalog, current.beneficiary
    with catalog.begin() as tx:
        landings.land(tx, [_landing(one) for one in arrivals])
    for one in arrivals:
        one.attempt.transfer = None
    with catalog.begin() as tx:
        digests = [one.work.layer.digest for one in arrivals]
        current.outbox.links += landings.settle(tx, digests, pull_id)
        if current.frees_slot:
            current.outbox.layers += waiters.unpark(tx)
    for one in arrivals:
        check_claim(one.work.layer, one.size_bytes)
        if one.attempt.proof is not None:
            one.attempt.proof.check()


def _landing(arrival: Arrival) -> Landing:
    current = arrival.attempt
    transfer, proof = current.transfer, current.proof
    return Landing(
        current.beneficiary,
        arrival.work.layer.digest,
        arrival.size_bytes,
        arrival.source,
        fetched_bytes=current.resources.keeper.tally.uncounted(transfer) if transfer else 0,
        diff_id=proof.diff_id if proof else None,
    )


def check_claim(layer: PullLayer, size_bytes: int) -> None:
    """Raises InvalidManifest: this pull's manifest promises another size than the blob has."""
    if size_bytes != layer.size_bytes:
        raise InvalidManifest(
            f"The manifest promises {layer.size_bytes} bytes for {layer.digest}, which has "
            f"{size_bytes}."
        )

"""A layer has come: its row, and everybody who waits for it.

Two transactions. The first says that the blob is stored, and ends the leases on it. The second
locks the pulls that list it, and tells which of them are whole now: the truth about completion is
"layers of this pull not yet stored = 0", whoever asks. A worker that dies between the two leaves
whole pulls that the reconciler finds.
"""

from shared.catalog import landings, waiters
from shared.catalog.pull_layers import PullLayer
from shared.errors import InvalidManifest
from workers.pulling.attempts import Attempt


def land(current: Attempt, layer: PullLayer, size_bytes: int, source: str) -> None:
    """The layer is on the volume. Raises InvalidManifest where the pull's claim is wrong."""
    catalog, pull_id = current.resources.catalog, current.beneficiary
    transfer = current.transfer
    fetched_bytes = current.resources.keeper.tally.uncounted(transfer) if transfer else 0
    proof = current.proof
    with catalog.begin() as tx:
        landings.land(
            tx,
            pull_id,
            layer.digest,
            size_bytes,
            source=source,
            fetched_bytes=fetched_bytes,
            diff_id=proof.diff_id if proof else None,
        )
    current.transfer = None
    with catalog.begin() as tx:
        current.outbox.links += landings.settle(tx, layer.digest, pull_id, own_is_told=True)
        if current.frees_slot:
            current.outbox.layers += waiters.unpark(tx)
    check_claim(layer, size_bytes)
    if proof is not None:
        proof.check()


def check_claim(layer: PullLayer, size_bytes: int) -> None:
    """Raises InvalidManifest: this pull's manifest promises another size than the blob has."""
    if size_bytes != layer.size_bytes:
        raise InvalidManifest(
            f"The manifest promises {layer.size_bytes} bytes for {layer.digest}, which has "
            f"{size_bytes}."
        )

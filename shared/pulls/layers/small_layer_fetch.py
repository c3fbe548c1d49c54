"""Small layers of a pull, fetched together by the task of one of them.

    fetch_layer(a)   begin a, b, c ── read a ── store a ── store b ── store c ── land a, b, c
                                           └─── read b ─── read c
    fetch_layer(b)   ends at once: another task fetches b

`shared/catalog/layers/small_layers.py` decides how many. They share one statement that begins them,
one fsync of their directory, and one transaction that records them as stored.

Each is read whole, without an ingest. The first error, whatever it is, ends the batch: layers that
arrived are recorded, and the others are given back to their own tasks. Those meet the error again
and have all the rules for it.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial

from shared.catalog.database.catalog import Connection
from shared.catalog.layers import messages, pull_layers, small_layers
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.layers.small_layers import SMALL_BYTES
from shared.download.prefetch import Prefetcher
from shared.download.progress import Progress
from shared.errors import CatalogUnavailable, TowlineError
from shared.oci.descriptor import Descriptor
from shared.oci.reference import Reference
from shared.pulls.context import Context
from shared.pulls.layers.bytes_fetched import Transfer
from shared.pulls.layers.diff_id_check import DiffIdCheck
from shared.pulls.layers.leased_fetch import FetchedLayer
from shared.pulls.layers.transfer import FetchJob, owner_of
from shared.pulls.steps.attempts import Attempt, hand_over
from shared.pulls.steps.interruptions import LeaseLost
from shared.volume.small_blobs import SmallBlobWriter

# The batch ends after this long: layers that arrived must not wait longer for slower ones.
_PATIENCE_SECONDS = 1.0


def begin_batch(
    tx: Connection, current: Attempt, reference: Reference, layer: PullLayer
) -> list[FetchJob]:
    """Begin this layer of the pull and its companions, this layer first.

    Empty if it has no companions. If another pull has just begun this layer, only the companions
    are in the result.
    """
    resources, pull_id = current.resources, current.pull_id
    is_slow = resources.claimed_layers.is_slow(reference.registry)
    if layer.size_bytes > SMALL_BYTES or layer.attempts or is_slow:
        return []
    taken = small_layers.take(
        tx,
        pull_id,
        layer.digest,
        owner=resources.owner,
        lease_seconds=resources.settings.lease_seconds,
        reserved_slots=resources.settings.reserved_slots if current.frees_slot else 0,
    )
    return [
        FetchJob(
            reference,
            begun.layer,
            Transfer(reference.registry, begun.layer.digest, begun.fence, pull_id, Progress()),
            alive=frozenset(),
        )
        for begun in taken
    ]


def fetch_batch(current: Attempt, works: Sequence[FetchJob]) -> list[FetchedLayer]:
    """Fetch these layers, the task's own one first; those that did not arrive are given back.

    Returns what arrived. Empty if the task's own layer did not: the task then still holds its lease
    and fetches it alone. Raises VolumeFull, VolumeUnavailable.
    """
    arrivals: list[FetchedLayer] = []
    others = works[1:]
    try:
        _fetch(current, works, arrivals)
    except BaseException:
        _give_back(current, others)
        raise
    _give_back(current, others[max(len(arrivals) - 1, 0) :])
    return arrivals


def _fetch(current: Attempt, works: Sequence[FetchJob], arrivals: list[FetchedLayer]) -> None:
    resources, deadline = current.resources, time.monotonic() + _PATIENCE_SECONDS
    reads = [partial(_read, resources, work) for work in works]
    owner = owner_of(works[0].transfer.fence)
    with Prefetcher(reads) as prefetcher, SmallBlobWriter(resources.volume, owner) as writer:
        try:
            for work in works:
                layer_attempt = _attempt(current, work) if arrivals else current
                raw = prefetcher.take(deadline - time.monotonic())
                arrivals.append(_store(layer_attempt, work, raw, writer))
        except TimeoutError:
            # Bytes that were read for nothing: do not try this again for a while.
            resources.claimed_layers.mark_slow(works[0].transfer.registry)
        except TowlineError:
            # The layer's own task will meet this error, too, and handle it by its class.
            pass
        writer.fsync()


def _read(resources: Context, work: FetchJob) -> bytes:
    layer = work.layer
    descriptor = Descriptor(layer.media_type, layer.digest, layer.size_bytes, urls=(*layer.urls,))
    return resources.registry.blob(work.reference, descriptor, SMALL_BYTES)


def _store(current: Attempt, work: FetchJob, raw: bytes, writer: SmallBlobWriter) -> FetchedLayer:
    progress = work.transfer.progress
    progress.received(len(raw))
    current.proof = DiffIdCheck.begin(current.resources, current.pull_id, work.layer)
    writer.put(work.layer.digest, raw)
    if current.proof is not None:
        current.proof.finish(current.resources, progress.beat)
    return FetchedLayer(current, work, len(raw), "network")


def _attempt(current: Attempt, work: FetchJob) -> Attempt:
    digest, transfer = work.layer.digest, work.transfer
    return Attempt(current.resources, current.pull_id, current.outbox, digest, transfer)


def _give_back(current: Attempt, left: Iterable[FetchJob]) -> None:
    """Leave these layers to their own tasks, or to the best pulls that wait for them."""
    pull_id, outbox = current.pull_id, current.outbox
    for work in left:
        digest = work.layer.digest
        # While the database is unavailable, the leases expire by themselves.
        with suppress(CatalogUnavailable, LeaseLost), current.resources.catalog.begin() as tx:
            pull_layers.uncount_attempt(tx, pull_id, digest)
            message = messages.dispatch(tx, pull_id, digest)
            outbox.layers += [message] if message else []
            outbox.layers += hand_over(tx, _attempt(current, work), but=pull_id)
        current.resources.claimed_layers.unclaim(pull_id, digest)

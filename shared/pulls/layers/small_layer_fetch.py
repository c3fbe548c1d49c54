"""Small layers of a pull, fetched together by the task of one of them.

    fetch_layer(a)   begin a, b, c ── read a ── write a ── write b ── write c ── store a, b, c
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
from shared.errors import CatalogUnavailable, TowlineError
from shared.oci.descriptor import Descriptor
from shared.oci.reference import Reference
from shared.pulls.context import Context
from shared.pulls.layers.diff_id_check import DiffIdCheck
from shared.pulls.layers.transfer import FetchedLayer
from shared.pulls.steps.attempt import Attempt, hand_over
from shared.pulls.steps.leased_layer import LeasedLayer, ingest_owner
from shared.pulls.steps.outcomes import LeaseLost
from shared.volume.small_blobs import SmallBlobWriter

# The batch ends after this long: layers that arrived must not wait longer for slower ones.
_PATIENCE_SECONDS = 1.0


def lease_batch(
    tx: Connection,
    context: Context,
    pull_id: str,
    reference: Reference,
    layer: PullLayer,
    reserved_slots: int,
) -> list[LeasedLayer]:
    """Take the leases of this layer of the pull and of its companions, this layer first.

    Empty if it has no companions. If another pull has just taken this layer, only the companions
    are in the result. `reserved_slots`: how many of the fleet's slots are not for this pull.
    """
    is_slow = context.claimed_layers.is_slow(reference.registry)
    if layer.size_bytes > SMALL_BYTES or layer.attempts or is_slow:
        return []
    taken = small_layers.take(
        tx,
        pull_id,
        layer.digest,
        owner=context.owner,
        lease_seconds=context.settings.lease_seconds,
        reserved_slots=reserved_slots,
    )
    return [LeasedLayer(reference, listed, fence, pull_id) for listed, fence in taken]


def fetch_batch(attempt: Attempt, leased: Sequence[LeasedLayer]) -> list[FetchedLayer]:
    """Fetch these layers, the task's own one first; those that did not arrive are given back.

    Returns what arrived. Empty if the task's own layer did not: the task then still holds its lease
    and fetches it alone. Raises VolumeFull, VolumeUnavailable.
    """
    fetched: list[FetchedLayer] = []
    companions = leased[1:]
    try:
        _fetch(attempt.context, leased, fetched)
    except BaseException:
        _give_back(attempt, companions)
        raise
    _give_back(attempt, companions[max(len(fetched) - 1, 0) :])
    return fetched


def _fetch(context: Context, batch: Sequence[LeasedLayer], fetched: list[FetchedLayer]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    reads = [partial(_read, context, leased) for leased in batch]
    owner = ingest_owner(batch[0].fence)
    with Prefetcher(reads) as prefetcher, SmallBlobWriter(context.volume, owner) as writer:
        try:
            for leased in batch:
                raw = prefetcher.take(deadline - time.monotonic())
                fetched.append(_write(context, leased, raw, writer))
        except TimeoutError:
            # Bytes that were read for nothing: do not try this again for a while.
            context.claimed_layers.mark_slow(batch[0].registry)
        except TowlineError:
            # The layer's own task will meet this error, too, and handle it by its class.
            pass
        writer.fsync()


def _read(context: Context, leased: LeasedLayer) -> bytes:
    layer = leased.layer
    descriptor = Descriptor(layer.media_type, layer.digest, layer.size_bytes, urls=(*layer.urls,))
    return context.registry.blob(leased.reference, descriptor, SMALL_BYTES)


def _write(
    context: Context, leased: LeasedLayer, raw: bytes, writer: SmallBlobWriter
) -> FetchedLayer:
    leased.progress.received(len(raw))
    check = DiffIdCheck.begin(context, leased.pull_id, leased.layer)
    writer.put(leased.digest, raw)
    if check is not None:
        check.finish(context, leased.progress.beat)
    return FetchedLayer(leased, len(raw), "network", check)


def _give_back(attempt: Attempt, left: Iterable[LeasedLayer]) -> None:
    """Leave these layers to their own tasks, or to the best pulls that wait for them."""
    pull_id, outbox = attempt.pull_id, attempt.outbox
    for leased in left:
        # While the database is unavailable, the leases expire by themselves.
        with suppress(CatalogUnavailable, LeaseLost), attempt.context.catalog.begin() as tx:
            pull_layers.uncount_attempt(tx, pull_id, leased.digest)
            message = messages.dispatch(tx, pull_id, leased.digest)
            outbox.layers += [message] if message else []
            outbox.layers += hand_over(tx, attempt.with_lease(leased), but=pull_id)
        attempt.context.claimed_layers.unclaim(pull_id, leased.digest)

"""Bring the bytes of one layer onto the volume, under its lease.

Bytes that are there already are adopted; all others are downloaded.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from shared.download.downloader import download
from shared.download.progress import Progress
from shared.pulls.context import Context
from shared.pulls.layers.diff_id_check import DiffIdCheck
from shared.pulls.steps.leased_layer import LeasedLayer, ingest_owner
from shared.pulls.steps.outcomes import LeaseLost
from shared.volume.ingest.ingest import Ingest

# Tells a watcher that `offset` of `size` bytes of the layer are on the volume.
Announce = Callable[[int, int], None]

_ANNOUNCED_EVERY_SECONDS = 2.0


class AnnouncedProgress(Progress):
    """Progress that is announced to a watcher every two seconds.

    A download that takes less announces nothing, since each announcement is a message to Redis.
    """

    def __init__(self, announce: Announce, size_bytes: int) -> None:
        super().__init__()
        self._announce = announce
        self._size_bytes = size_bytes
        self._was_announced = False
        self._next_at = time.monotonic() + _ANNOUNCED_EVERY_SECONDS

    def at(self, offset: int) -> None:
        """Record the offset, and announce it if it is time or if the layer is complete."""
        super().at(offset)
        now = time.monotonic()
        if now >= self._next_at or (self._was_announced and offset == self._size_bytes):
            self._was_announced = True
            self._next_at = now + _ANNOUNCED_EVERY_SECONDS
            self._announce(offset, self._size_bytes)


@dataclass(frozen=True, slots=True)
class FetchedLayer:
    """A layer that is on the volume, verified, and has no row yet.

    `source`: as in the receipt. `check`: of its diff_id, None if diff_ids are not verified.
    """

    leased: LeasedLayer
    size_bytes: int
    source: str
    check: DiffIdCheck | None = None


def transfer(context: Context, leased: LeasedLayer) -> FetchedLayer:
    """Bring the layer onto the volume.

    A blob that was published without a row, because its worker died in between, is hashed and
    adopted. Raises what the registry, the volume and a stop of the download raise.
    """
    size_bytes = context.volume.adopt(leased.digest, leased.progress.beat)
    if size_bytes is not None:
        return FetchedLayer(leased, size_bytes, "present")
    return _download(context, leased)


def _download(context: Context, leased: LeasedLayer) -> FetchedLayer:
    layer, progress, settings = leased.layer, leased.progress, context.settings
    # First, since it raises for a registry that is not allowed, and nothing is open yet.
    blob = context.registry.source(leased.reference, layer.digest, layer.size_bytes, layer.urls)
    check = DiffIdCheck.begin(context, leased.pull_id, layer)
    ingest = Ingest.begin(
        context.volume,
        layer.digest,
        layer.size_bytes,
        ingest_owner(leased.fence),
        alive=frozenset(map(ingest_owner, leased.rivals)),
        beat=progress.beat,
    )
    source = "resumed" if ingest.inherited_bytes else "network"
    if check is not None:
        ingest.unpack_with(check.unpacking)
    try:
        download(blob, ingest, progress, settings.layer_connections, settings.chunk_bytes)
    except LeaseLost:
        # The new owner may be copying these bytes: every name is left to it.
        ingest.abandon()
        raise
    except BaseException:
        # Whatever ends the download, the next attempt continues from these bytes.
        progress.offset = ingest.offset
        if ingest.offset:
            ingest.release()
        else:
            ingest.discard()
        raise
    if check is not None:
        check.finish(context, progress.beat)
    return FetchedLayer(leased, layer.size_bytes, source, check)

"""The bytes of one layer, under its lease: adopted if they are on the volume, else downloaded."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from shared.catalog.layers.pull_layers import PullLayer
from shared.download.downloader import download
from shared.download.progress import Progress
from shared.oci.reference import Reference
from shared.pulls.layers.bytes_fetched import Transfer
from shared.pulls.layers.diff_id_check import DiffIdCheck
from shared.pulls.steps.attempts import Attempt
from shared.pulls.steps.interruptions import LeaseLost
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
class FetchJob:
    """A layer to fetch, under the lease that was taken for it."""

    reference: Reference
    layer: PullLayer
    transfer: Transfer
    # Owners that may still be writing to their ingests of this blob: leave those alone.
    alive: frozenset[str]


def adopt_or_download(current: Attempt, work: FetchJob) -> tuple[int, str]:
    """Adopt or download the layer. Returns the verified size of the blob and, for the receipt, its
    source.
    """
    progress, digest = work.transfer.progress, work.layer.digest
    adopted = current.resources.volume.adopt(digest, progress.beat)
    if adopted is not None:
        return adopted, "present"
    return work.layer.size_bytes, _transfer(current, work)


def owner_of(fence: int) -> str:
    """The owner's name of the ingest under this fence, padded so that names sort like fences."""
    return f"{fence:020d}"


def _transfer(current: Attempt, work: FetchJob) -> str:
    """Download the layer into an ingest and commit it. Returns the source for the receipt."""
    resources, layer, progress = current.resources, work.layer, work.transfer.progress
    # First, since it raises for a registry that is not allowed, and nothing is open yet.
    blob = resources.registry.source(work.reference, layer.digest, layer.size_bytes, layer.urls)
    current.proof = DiffIdCheck.begin(resources, work.transfer.pull_id, layer)
    ingest = Ingest.begin(
        resources.volume,
        layer.digest,
        layer.size_bytes,
        owner_of(work.transfer.fence),
        alive=work.alive,
        beat=progress.beat,
    )
    source = "resumed" if ingest.inherited_bytes else "network"
    proof = current.proof
    if proof is not None:
        ingest.unpack_with(proof.unpacking)
    settings = resources.settings
    try:
        download(blob, ingest, progress, settings.layer_connections, settings.chunk_bytes)
    except LeaseLost:
        # The new owner may be copying these bytes: every name is left to it.
        ingest.abandon()
        raise
    except BaseException:
        # Whatever ends the download, the next attempt continues from these bytes.
        current.kept_bytes = ingest.offset
        if ingest.offset:
            ingest.release()
        else:
            ingest.discard()
        raise
    if proof is not None:
        proof.finish(resources, progress.beat)
    return source

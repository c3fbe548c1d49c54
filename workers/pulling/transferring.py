"""The bytes of one layer, under a lease: adopted where they are there, else downloaded."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from shared.catalog.pull_layers import PullLayer
from shared.download.engine import download
from shared.download.progress import Progress
from shared.oci.reference import Reference
from shared.volume.ingest import Ingest
from workers.pulling.attempts import Attempt
from workers.pulling.proving import Proof
from workers.pulling.stops import LeaseLost
from workers.pulling.tally import Transfer

# Tells a watcher "this layer stands at `offset` of `size` bytes".
Announce = Callable[[int, int], None]

_ANNOUNCED_EVERY_SECONDS = 2.0


class Announced(Progress):
    """Counters that others can watch from time to time; who is done sooner says nothing."""

    def __init__(self, announce: Announce, size_bytes: int) -> None:
        super().__init__()
        self._announce = announce
        self._size_bytes = size_bytes
        self._told = False
        self._next = time.monotonic() + _ANNOUNCED_EVERY_SECONDS

    def at(self, offset: int) -> None:
        """See Progress."""
        super().at(offset)
        now = time.monotonic()
        if now >= self._next or (self._told and offset == self._size_bytes):
            self._told = True
            self._next = now + _ANNOUNCED_EVERY_SECONDS
            self._announce(offset, self._size_bytes)


@dataclass(frozen=True, slots=True)
class Work:
    """A layer to be fetched under a lease that was taken for it."""

    reference: Reference
    layer: PullLayer
    transfer: Transfer
    # Owners of ingests that are not to be touched.
    alive: frozenset[str]


def obtain(current: Attempt, work: Work) -> tuple[int, str]:
    """The verified size of the blob, and its source for the receipt."""
    progress, digest = work.transfer.progress, work.layer.digest
    adopted = current.resources.volume.adopt(digest, progress.beat)
    if adopted is not None:
        return adopted, "present"
    return work.layer.size_bytes, _transfer(current, work)


def owner_of(fence: int) -> str:
    """Whose an ingest is."""
    return f"{fence:020d}"


def _transfer(current: Attempt, work: Work) -> str:
    """Fill and commit an ingest."""
    resources, layer, progress = current.resources, work.layer, work.transfer.progress
    # Before anything is open: it may be refused.
    blob = resources.registry.source(work.reference, layer.digest, layer.size_bytes, layer.urls)
    current.proof = Proof.begin(resources, work.transfer.pull_id, layer)
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
        ingest.follow(proof.unpacking)
    settings = resources.settings
    try:
        download(blob, ingest, progress, settings.layer_connections, settings.chunk_bytes)
    except LeaseLost:
        ingest.abandon()
        raise
    except BaseException:
        current.kept_bytes = ingest.offset
        if ingest.offset:
            ingest.release()
        else:
            ingest.discard()
        raise
    if proof is not None:
        proof.finish(resources, progress.beat)
    return source

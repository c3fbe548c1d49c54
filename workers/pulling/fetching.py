"""One layer: from what is on disk to a stored, verified blob and its row.

Of the task's arguments only the digest is believed, and only if the pull lists it; sizes come
from the catalog. The file is published first and the row written second, so a crash between the
two leaves a blob that the next attempt hashes and adopts.
"""

from collections.abc import Callable
from dataclasses import dataclass

from shared.catalog import blobs, leases, pull_layers, pulls
from shared.catalog.pull_layers import PullLayer
from shared.download.engine import download
from shared.download.progress import Progress
from shared.errors import CatalogUnavailable, InvalidArgument, InvalidManifest
from shared.oci.digest import Digest
from shared.oci.reference import Reference
from shared.volume.ingest import Ingest
from workers.pulling.attempts import Attempt, attempt
from workers.resources import Resources

# Tells a watcher "this layer stands at `offset` of `size` bytes".
Announce = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class _Transfer:
    """A layer of a pull, to be fetched by the holder of `fence`."""

    resources: Resources
    pull_id: str
    reference: Reference
    layer: PullLayer
    fence: int

    @property
    def digest(self) -> Digest:
        return self.layer.digest


def fetch_layer(resources: Resources, pull_id: str, digest: Digest, announce: Announce) -> None:
    """Bring one layer of a pull onto the volume. Does nothing for a layer or pull that is done.

    Raises TryAgain, or the error after the pull was failed with it.
    """
    with attempt(resources, pull_id, digest) as current:
        transfer = _begin(resources, pull_id, digest)
        if transfer is None:
            return
        adopted = resources.volume.adopt(digest)
        if adopted is not None:
            _land(transfer, adopted, source="present")
            return
        source = _transfer(transfer, current, announce)
        _land(transfer, transfer.layer.size_bytes, source)


def _begin(resources: Resources, pull_id: str, digest: Digest) -> _Transfer | None:
    """What there is to do; None when the pull has ended or the layer is stored."""
    with resources.catalog.begin() as tx:
        pull = pulls.get(tx, pull_id)
        if pull is None or pull.final:
            return None
        reference = Reference.parse(pull.reference)
        layer = pull_layers.get(tx, pull_id, digest, reference.registry)
        if layer is None:
            raise InvalidArgument(f"The pull {pull_id} does not list the layer {digest}.")
        stored = blobs.stored(tx, [digest]).get(digest)
        if stored is not None:
            _check_claim(layer, stored)
            return None
        pull_layers.begin(tx, pull_id, digest)
        pulls.go_on(tx, pull_id)
        fence = leases.begin(
            tx,
            reference.registry,
            digest,
            resources.owner,
            layer.size_bytes,
            resources.settings.lease_seconds,
        )
    return _Transfer(resources, pull_id, reference, layer, fence)


def _transfer(transfer: _Transfer, current: Attempt, announce: Announce) -> str:
    """Fill and commit an ingest; the answer is the layer's source for the receipt."""
    size = transfer.layer.size_bytes
    ingest = Ingest.begin(
        transfer.resources.volume, transfer.digest, size, owner=f"{transfer.fence:020d}"
    )
    source = "resumed" if ingest.inherited_bytes else "network"
    reported = _Reported(transfer, announce)
    progress = Progress(lambda offset: reported.report(offset, progress.fetched))
    try:
        download(
            lambda first: transfer.resources.registry.open_blob(
                transfer.reference, transfer.digest, size, first
            ),
            ingest,
            progress,
        )
    except BaseException:
        current.reached_bytes = progress.reached
        if ingest.offset:
            ingest.release()
        else:
            ingest.discard()
        raise
    finally:
        progress.flush()
    return source


class _Reported:
    """Writes a transfer's progress to the catalog, and tells whoever watches the task."""

    def __init__(self, transfer: _Transfer, announce: Announce) -> None:
        self._transfer = transfer
        self._announce = announce
        self._fetched = 0

    def report(self, offset: int, fetched: int) -> None:
        """The blob stands at `offset`; `fetched` bytes came over the network so far."""
        transfer = self._transfer
        self._announce(offset, transfer.layer.size_bytes)
        try:
            self._record(offset, fetched)
        except CatalogUnavailable:
            # Bytes go on coming while the database is away; the next report catches up.
            return
        self._fetched = fetched

    def _record(self, offset: int, fetched: int) -> None:
        transfer = self._transfer
        with transfer.resources.catalog.begin() as tx:
            leases.report(
                tx,
                transfer.reference.registry,
                transfer.digest,
                transfer.fence,
                offset,
                transfer.resources.settings.lease_seconds,
            )
            pull_layers.fetched(tx, transfer.pull_id, transfer.digest, fetched - self._fetched)
            pulls.refresh_bytes_done(tx, transfer.pull_id, transfer.reference.registry)


def _land(transfer: _Transfer, size: int, source: str) -> None:
    _check_claim(transfer.layer, size)
    with transfer.resources.catalog.begin() as tx:
        blobs.store_layer(tx, transfer.digest, size)
        pull_layers.landed(tx, transfer.pull_id, transfer.digest, source)
        leases.end(tx, transfer.reference.registry, transfer.digest, transfer.fence)
        pulls.refresh_bytes_done(tx, transfer.pull_id, transfer.reference.registry)


def _check_claim(layer: PullLayer, size: int) -> None:
    if size != layer.size_bytes:
        raise InvalidManifest(
            f"The manifest promises {layer.size_bytes} bytes for {layer.digest}, which has {size}."
        )

"""The last step: every layer is stored, so the image becomes one.

Transaction 1: the manifest's layers by position. Then the layout directory. Transaction 2: image,
history, receipt, complete. The layout always ends as what the image's row says, whichever of two
racing pulls wrote it last.
"""

from shared.catalog import ends, images, pull_layers, pulls
from shared.catalog.images import ImageRow, NewImage
from shared.catalog.pull_values import Pull
from shared.errors import InvalidArgument, InvalidManifest
from shared.oci.digest import Digest
from shared.oci.document import read_document
from shared.oci.manifest import Layer, Manifest, pair_layers
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from shared.volume.layout import ImageFiles, layout_manifest, write_layout
from workers.pulling.duplicates import complete_duplicates
from workers.pulling.outbox import Outbox
from workers.pulling.proving import prove
from workers.pulling.receipts import Receipt, receipt_of
from workers.pulling.resolving import DOCUMENT_LIMIT_BYTES, Resolution, recall
from workers.pulling.stepping import step
from workers.pulling.trying import attempt
from workers.resources import Resources


def link_image(resources: Resources, pull_id: str, outbox: Outbox) -> Receipt | None:
    """Complete a pull whose layers are all stored; its receipt, None while one is missing or while
    somebody else links it.

    Raises TryAgain, or the error after the pull was failed with it.
    """
    with attempt(resources, pull_id, outbox) as current, step(current) as held:
        pull = held.pull if held else _standing(resources, pull_id)
        if pull is None:
            raise InvalidArgument(f"There is no pull {pull_id}.")
        if pull.final or pull.manifest_digest is None or held is None:
            return pull.receipt
        resolution = recall(resources, pull)
        layers = pair_layers(resolution.manifest, resolution.config)
        if not prove(resources, pull_id, layers, held.beat):
            return None
        held.beat()
        if not _link_layers(resources, pull, layers):
            return None
        _write_layout(resources, pull, resolution)
        held.beat()
        receipt = _complete(resources, pull, resolution, layers)
        _settle_layout(resources, pull)
        outbox.end([pull_id])
        complete_duplicates(resources, pull, layers, outbox)
        return receipt
    return None


def _standing(resources: Resources, pull_id: str) -> Pull | None:
    with resources.catalog.begin() as tx:
        return pulls.get(tx, pull_id)


def _link_layers(resources: Resources, pull: Pull, layers: tuple[Layer, ...]) -> bool:
    """Whether every layer is stored; then the manifest's links are, too."""
    with resources.catalog.begin() as tx:
        pulls.lock(tx, pull.id)
        if not pull_layers.are_whole(tx, pull.id):
            return False
        images.link_layers(tx, Digest.parse(str(pull.manifest_digest)), layers)
        pulls.linking(tx, pull.id)
    return True


def _write_layout(resources: Resources, pull: Pull, resolution: Resolution) -> None:
    reference, platform = _named(pull)
    with resources.catalog.begin() as tx:
        current = images.current(tx, pull.reference, str(platform))
    if current is not None and current.resolved_at > resolution.resolved_at:
        return
    files = _files(resolution.manifest_digest, len(resolution.manifest_raw), resolution.manifest)
    write_layout(resources.volume, reference, platform, files)


def _settle_layout(resources: Resources, pull: Pull) -> None:
    """Make the layout what the image's row says, should another pull have come between."""
    reference, platform = _named(pull)
    while True:
        with resources.catalog.begin() as tx:
            current = images.current(tx, pull.reference, str(platform))
        if current is None or _is_laid_out(resources, reference, platform, current):
            return
        digest = Digest.parse(current.manifest_digest)
        raw = resources.volume.read(digest, DOCUMENT_LIMIT_BYTES)
        manifest = read_document(raw, None)
        if not isinstance(manifest, Manifest):
            raise InvalidManifest(f"The image {reference} names {digest}, which is no manifest.")
        write_layout(resources.volume, reference, platform, _files(digest, len(raw), manifest))


def _is_laid_out(
    resources: Resources, reference: Reference, platform: Platform, image: ImageRow
) -> bool:
    return str(layout_manifest(resources.volume, reference, platform)) == image.manifest_digest


def _files(digest: Digest, size: int, manifest: Manifest) -> ImageFiles:
    blobs = [digest, manifest.config.digest]
    blobs += [layer.digest for layer in manifest.distinct_layers]
    return ImageFiles(manifest.media_type, digest, size, blobs)


def _complete(
    resources: Resources, pull: Pull, resolution: Resolution, layers: tuple[Layer, ...]
) -> Receipt | None:
    with resources.catalog.begin() as tx:
        current = pulls.lock(tx, pull.id)
        if current is None or current.final:
            return current.receipt if current else None
        images.link(tx, _new_image(current, resolution))
        finished_at = pulls.clock(tx)
        registry = Reference.parse(pull.reference).registry
        fetched = pull_layers.of_pulls(tx, [pull.id], registry)[pull.id]
        receipt = receipt_of(current, layers, fetched, finished_at)
        ends.complete(tx, pull.id, receipt, finished_at)
    return receipt


def _new_image(pull: Pull, resolution: Resolution) -> NewImage:
    index = resolution.index
    return NewImage(
        reference=pull.reference,
        platform=str(pull.platform),
        manifest_digest=str(resolution.manifest_digest),
        index_digest=str(index.digest) if index else None,
        size_bytes=resolution.manifest.total_size_bytes,
        resolved_at=resolution.resolved_at,
        is_tag=Reference.parse(pull.reference).pinned is None,
    )


def _named(pull: Pull) -> tuple[Reference, Platform]:
    return Reference.parse(pull.reference), Platform.parse(str(pull.platform))

"""The layout directory of an image, and that it ends as what the image's row says.

Two pulls of one tag may write it at the same time, and a pull may end between the layout and the
row. Each writer looks at layout and row afterwards, so the last one leaves both equal. The
reconciler has the same done for a worker that died before it had looked.
"""

from shared.catalog import images, layouts
from shared.catalog.pull_values import Pull
from shared.errors import InvalidManifest, PermanentError, VolumeUnavailable
from shared.oci.digest import Digest
from shared.oci.document import read_document
from shared.oci.manifest import Manifest
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from shared.volume.layout import (
    ImageFiles,
    is_whole,
    layout_manifest,
    remove_layout,
    write_layout,
)
from workers.pulling.resolving import DOCUMENT_LIMIT_BYTES, Resolution
from workers.resources import Resources


def lay_out(resources: Resources, pull: Pull, resolution: Resolution) -> None:
    """Write the layout of this pull's image, unless a newer resolution is linked already."""
    reference, platform = _named(pull)
    with resources.catalog.begin() as tx:
        current = images.current(tx, pull.reference, str(platform))
    if current is not None and current.resolved_at > resolution.resolved_at:
        return
    files = _files(resolution.manifest_digest, len(resolution.manifest_raw), resolution.manifest)
    write_layout(resources.volume, reference, platform, files)


def settle_layout(resources: Resources, pull: Pull) -> None:
    """Make the layout what the image's row says; without a row there is none.

    To be called after the layout was written and the row committed, or the pull has ended.
    """
    reference, platform = _named(pull)
    while True:
        laid_out = _whole_layout(resources, reference, platform)
        with resources.catalog.begin() as tx:
            named = layouts.settle(tx, pull.id, reference, laid_out)
        if named == laid_out:
            return
        if named is None:
            remove_layout(resources.volume, reference, platform)
        else:
            files = _files_of(resources, named)
            write_layout(resources.volume, reference, platform, files)


def _whole_layout(resources: Resources, reference: Reference, platform: Platform) -> Digest | None:
    """The manifest that the layout names, None where a blob of it is missing there."""
    digest = layout_manifest(resources.volume, reference, platform)
    if digest is None:
        return None
    try:
        blobs = _files_of(resources, digest).blobs
    except (PermanentError, VolumeUnavailable):
        # What cannot be read is not believed; reading what the row names will say why.
        return None
    return digest if is_whole(resources.volume, reference, platform, blobs) else None


def _files_of(resources: Resources, digest: Digest) -> ImageFiles:
    raw = resources.volume.read(digest, DOCUMENT_LIMIT_BYTES)
    manifest = read_document(raw, None)
    if not isinstance(manifest, Manifest):
        raise InvalidManifest(f"An image names {digest}, which is no manifest.")
    return _files(digest, len(raw), manifest)


def _files(digest: Digest, size: int, manifest: Manifest) -> ImageFiles:
    blobs = [digest, manifest.config.digest]
    blobs += [layer.digest for layer in manifest.distinct_layers]
    return ImageFiles(manifest.media_type, digest, size, blobs)


def _named(pull: Pull) -> tuple[Reference, Platform]:
    return Reference.parse(pull.reference), Platform.parse(str(pull.platform))

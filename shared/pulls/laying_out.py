"""The layout directory of an image, and how it is kept equal to the image's row.

Two pulls of one tag may write the layout at the same time, and a pull may end after the layout was
written and before the row. Therefore each writer compares layout and row afterwards, and the last
one leaves them equal. If a worker dies before it has compared them, the reconciler sends the link
again.
"""

from shared.catalog.content import image_rows, layouts
from shared.catalog.model.pull_values import Pull
from shared.errors import InvalidManifest, PermanentError, VolumeUnavailable
from shared.oci.digest import Digest
from shared.oci.document import read_document
from shared.oci.manifest import Manifest
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from shared.pulls.context import Context
from shared.pulls.resolving import DOCUMENT_LIMIT_BYTES, Resolution
from shared.volume.layout import (
    ImageFiles,
    is_whole,
    layout_manifest,
    remove_layout,
    write_layout,
)


def lay_out(context: Context, pull: Pull, resolution: Resolution) -> None:
    """Write the layout of this pull's image, unless a newer resolution is linked already."""
    reference, platform = _named(pull)
    with context.catalog.begin() as tx:
        current = image_rows.current(tx, pull.reference, str(platform))
    if current is not None and current.resolved_at > resolution.resolved_at:
        return
    files = _files(resolution.manifest_digest, len(resolution.manifest_raw), resolution.manifest)
    write_layout(context.volume, reference, platform, files)


def settle_layout(context: Context, pull: Pull) -> None:
    """Make the layout match the image's row; without a row, remove it.

    Call it once the row is committed, or once the pull has ended.
    """
    reference, platform = _named(pull)
    while True:
        laid_out = _whole_layout(context, reference, platform)
        with context.catalog.begin() as tx:
            named = layouts.settle(tx, pull.id, reference, laid_out)
        if named == laid_out:
            return
        if named is None:
            remove_layout(context.volume, reference, platform)
        else:
            files = _files_of(context, named)
            write_layout(context.volume, reference, platform, files)


def _whole_layout(context: Context, reference: Reference, platform: Platform) -> Digest | None:
    """The manifest that the layout names; None without a layout, or if one of its blobs is missing
    there.
    """
    digest = layout_manifest(context.volume, reference, platform)
    if digest is None:
        return None
    try:
        blobs = _files_of(context, digest).blobs
    except (PermanentError, VolumeUnavailable):
        # Treated as missing. If the manifest of the row cannot be read either, that will raise.
        return None
    return digest if is_whole(context.volume, reference, platform, blobs) else None


def _files_of(context: Context, digest: Digest) -> ImageFiles:
    raw = context.volume.read(digest, DOCUMENT_LIMIT_BYTES)
    manifest = read_document(raw, None)
    if not isinstance(manifest, Manifest):
        raise InvalidManifest(f"An image names {digest}, which is not a manifest.")
    return _files(digest, len(raw), manifest)


def _files(digest: Digest, size: int, manifest: Manifest) -> ImageFiles:
    blobs = [digest, manifest.config.digest]
    blobs += [layer.digest for layer in manifest.distinct_layers]
    return ImageFiles(manifest.media_type, digest, size, blobs)


def _named(pull: Pull) -> tuple[Reference, Platform]:
    return Reference.parse(pull.reference), Platform.parse(str(pull.platform))

"""Layout directories: each image as an OCI image layout that tools can read in place.

    images/<registry>/<repository>/_tags/<tag>/<os>-<arch>[-<variant>]/
    images/<registry>/<repository>/_digests/<algorithm>-<hex>/<os>-<arch>[-<variant>]/

No component of a repository name begins with `_`, so these paths cannot collide with one. Blobs are
hard links into the store, or relative symlinks if the filesystem refuses hard links. `index.json`
is replaced last and atomically: a reader sees the old image or the new one.

Source: image-spec v1.1, "OCI Image Layout Specification".
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidDigest
from shared.oci import media_type
from shared.oci.digest import Digest
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from shared.volume.directory import LINKS_REFUSED, Directory, volume_errors
from shared.volume.store import Volume

_REF_NAME = "org.opencontainers.image.ref.name"
_INDEX_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """The manifest of a layout, and all blobs of the image, the manifest included."""

    media_type: str
    manifest: Digest
    size: int
    blobs: Sequence[Digest]


def layout_names(reference: Reference, platform: Platform) -> tuple[str, ...]:
    """The path of this image's layout below the volume, as directory names."""
    if reference.pinned is not None:
        digest = reference.pinned
        version = ("_digests", f"{digest.algorithm}-{digest.encoded}")
    else:
        version = ("_tags", str(reference.tag))
    # Many filesystems and tools cannot handle ":"; "_" cannot occur in a registry name.
    registry = reference.registry.replace(":", "_")
    return ("images", registry, *reference.repository.split("/"), *version, platform.directory)


def write_layout(
    volume: Volume, reference: Reference, platform: Platform, image: ImageFiles
) -> None:
    """Make the layout name `image`: link new blobs, replace the index, remove other blobs.

    Raises VolumeUnavailable or VolumeFull.
    """
    names = layout_names(reference, platform)
    with (
        volume_errors(f"write the layout of {reference}"),
        volume.root.descend(*names, create=True) as layout,
    ):
        for algorithm in sorted({digest.algorithm for digest in image.blobs}):
            digests = [digest for digest in image.blobs if digest.algorithm == algorithm]
            _place_blobs(volume, layout, algorithm, digests, depth=len(names))
        if layout.stat("oci-layout") is None:
            layout.replace("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        layout.replace("index.json", _index(reference, platform, image))
        _remove_others(layout, image.blobs)


def layout_manifest(volume: Volume, reference: Reference, platform: Platform) -> Digest | None:
    """The manifest that the layout names now; None if there is no readable layout."""
    with volume_errors(f"read the layout of {reference}"):
        try:
            with volume.root.descend(*layout_names(reference, platform)) as layout:
                document = json.loads(layout.read("index.json", _INDEX_LIMIT_BYTES))
                return Digest.parse(document["manifests"][0]["digest"])
        except (FileNotFoundError, ValueError, KeyError, IndexError, TypeError, InvalidDigest):
            return None


def is_whole(
    volume: Volume, reference: Reference, platform: Platform, blobs: Sequence[Digest]
) -> bool:
    """Whether the layout contains all `blobs`.

    Two concurrent writers of a layout may remove each other's blobs.
    """
    with (
        volume_errors(f"read the layout of {reference}"),
        suppress(FileNotFoundError),
        volume.root.descend(*layout_names(reference, platform), "blobs") as layout,
    ):
        for algorithm in {digest.algorithm for digest in blobs}:
            with layout.descend(algorithm) as directory:
                names = set(directory.names())
            if any(blob.encoded not in names for blob in blobs if blob.algorithm == algorithm):
                return False
        return True
    return False


def remove_layout(volume: Volume, reference: Reference, platform: Platform) -> None:
    """Remove the layout of this image, if there is one. Raises VolumeUnavailable."""
    *parents, name = layout_names(reference, platform)
    with (
        volume_errors(f"remove the layout of {reference}"),
        suppress(FileNotFoundError),
        volume.root.descend(*parents) as parent,
    ):
        with parent.descend(name) as layout:
            # The index goes first, so that no reader finds a manifest without its blobs.
            layout.unlink("index.json")
            layout.fsync()
            _remove_others(layout, ())
            with layout.descend("blobs") as blobs:
                for algorithm in blobs.names():
                    blobs.rmdir(algorithm)
            layout.rmdir("blobs")
            layout.unlink("oci-layout")
        parent.rmdir(name)


def _index(reference: Reference, platform: Platform, image: ImageFiles) -> bytes:
    entry: dict[str, Any] = {
        "mediaType": image.media_type,
        "digest": str(image.manifest),
        "size": image.size,
        "platform": {"os": platform.os, "architecture": platform.architecture},
    }
    if platform.variant:
        entry["platform"]["variant"] = platform.variant
    if reference.tag:
        entry["annotations"] = {_REF_NAME: reference.tag}
    document = {"schemaVersion": 2, "mediaType": media_type.OCI_INDEX, "manifests": [entry]}
    return json.dumps(document, indent=2).encode() + b"\n"


def _place_blobs(
    volume: Volume, layout: Directory, algorithm: str, digests: Sequence[Digest], depth: int
) -> None:
    with (
        volume.root.descend("blobs", algorithm) as store,
        layout.descend("blobs", algorithm, create=True) as blobs,
    ):
        placed = [_place_blob(store, blobs, digest, depth) for digest in digests]
        if any(placed):
            # One fsync makes all new names durable.
            blobs.fsync()


def _place_blob(store: Directory, blobs: Directory, digest: Digest, depth: int) -> bool:
    """Link a blob into the layout. Returns False if it was there already."""
    linked, stored = blobs.stat(digest.encoded), store.stat(digest.encoded)
    if linked is not None:
        if stored is not None and (linked.st_dev, linked.st_ino) == (stored.st_dev, stored.st_ino):
            return False
        # A hard link to a file that was quarantined since, or an older symlink.
        blobs.unlink(digest.encoded)
    try:
        store.link(digest.encoded, blobs, digest.encoded)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in LINKS_REFUSED:
            raise
        up = "../" * (depth + 2)
        blobs.symlink(digest.encoded, f"{up}blobs/{digest.algorithm}/{digest.encoded}")
    return True


def _remove_others(layout: Directory, kept: Sequence[Digest]) -> None:
    with layout.descend("blobs") as blobs:
        for algorithm in blobs.names():
            wanted = {digest.encoded for digest in kept if digest.algorithm == algorithm}
            with blobs.descend(algorithm) as directory:
                for name in directory.names():
                    if name not in wanted:
                        directory.unlink(name)

"""The invariants, proved row by row and byte by byte. Reads only.

    every name under blobs/ hashes to itself
    every stored row has its file with that size, and every file its row or a lease
    every ingest is somebody's
    every image's layout names its manifest, and nothing points at what is not stored
    no layer is known to uncompress to something else than an image claims
    bytes fetched are at most the unique bytes and one chunk for every start

A fleet at work changes while this looks, so what seems broken is looked at once more at the end.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from shared.catalog import diff_ids, inventory
from shared.catalog.database import Catalog
from shared.catalog.inventory import ImageName
from shared.errors import InvalidPlatform, InvalidReference
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from shared.volume.inventory import BlobFile, IngestFiles, blob_files, ingest_files, names_itself
from shared.volume.layout import layout_manifest
from shared.volume.store import Volume
from workers.examining.finding import Finding, counted, finding

# As long as a step between a file and its row, or a layout and its row, takes.
_SECOND_LOOK_SECONDS = 1.0

Progress = Callable[[int, int], None]

# A pull finds the wrong file under the name then, and puts it into quarantine.
_FETCH_AGAIN = (
    "run UPDATE blobs SET stored_at = NULL WHERE digest = '…' in the catalog for each, and pull "
    "the images that hold it again"
)


def rows(catalog: Catalog, chunk_bytes: int) -> Iterator[Finding]:
    """What the catalog alone can tell."""
    with catalog.begin() as tx:
        unbacked = inventory.unbacked_images(tx)
        contradicted = diff_ids.contradicted(tx)
        fetched = inventory.fetched(tx)
    if unbacked:
        yield finding(
            "images",
            "problem",
            f"{counted(len(unbacked), 'blob')} of images that are linked are not stored: pull "
            "those images again.",
            [f"{reference} {platform} {digest}" for reference, platform, digest in unbacked],
        )
    else:
        yield Finding("images", "ok", "Every blob of every image is stored.")
    yield _claims(contradicted)
    yield _traffic(fetched, chunk_bytes)


def _claims(contradicted: Sequence[diff_ids.Contradiction]) -> Finding:
    if contradicted:
        return finding(
            "diff_ids",
            "warning",
            f"{counted(len(contradicted), 'layer')} of images that were linked unverified: what "
            "they uncompress to is not what the image's config claims, so the image is damaged.",
            [
                f"{one.reference} {one.platform} {one.digest}: {one.actual} instead of "
                f"{one.diff_id}"
                for one in contradicted
            ],
        )
    return Finding("diff_ids", "ok", "No diff_id that was verified contradicts an image.")


def _traffic(fetched: Sequence[inventory.Fetched], chunk_bytes: int) -> Finding:
    total = sum(one.bytes_fetched for one in fetched)
    unique = sum({one.digest: one.size_bytes for one in fetched}.values())
    over = [one for one in fetched if one.bytes_fetched > one.size_bytes + chunk_bytes * one.starts]
    if over:
        return finding(
            "traffic",
            "warning",
            f"{counted(len(over), 'layer')} came with more bytes than its size and one chunk for "
            "each start: its registry ignores ranges, served wrong bytes, or the blob was fetched "
            "anew after it was removed.",
            [
                f"{one.digest} from {one.registry}: {one.bytes_fetched:,} bytes for "
                f"{one.size_bytes:,} in {counted(one.starts, 'start')}"
                for one in over
            ],
        )
    ratio = f", {total / unique:.3f} times" if unique else ""
    return Finding(
        "traffic",
        "ok",
        f"{total:,} bytes were fetched for {unique:,} bytes of distinct layers{ratio}.",
    )


def bytes_and_rows(volume: Volume, catalog: Catalog, progress: Progress) -> Iterator[Finding]:
    """The volume against the catalog. Raises VolumeUnavailable, CatalogUnavailable."""
    # Rows first: a file comes before its row, so every row read here has had its file for longer.
    stored = dict(inventory.stored_blobs(catalog))
    files = blob_files(volume)
    yield from _rows_without_files(stored, files, catalog)
    yield _files_without_rows(stored, files, catalog)
    yield _ingests(volume, catalog)
    yield _layouts(volume, catalog)
    yield _hashes(volume, files, progress)


def _rows_without_files(
    stored: Mapping[str, int], files: Sequence[BlobFile], catalog: Catalog
) -> Iterator[Finding]:
    sizes = {str(file.digest): file.size_bytes for file in files}
    suspects = [digest for digest, size in stored.items() if sizes.get(digest) != size]
    # What gc has taken meanwhile has no row any more.
    still = dict(inventory.stored_blobs(catalog)) if suspects else {}
    wrong = [digest for digest in suspects if digest in still]
    if wrong:
        yield finding(
            "rows",
            "problem",
            f"{counted(len(wrong), 'stored row')} without a file of that size: {_FETCH_AGAIN}.",
            [f"{digest}: {_there(sizes.get(digest), stored[digest])}" for digest in wrong],
        )
    else:
        yield Finding(
            "rows", "ok", f"{counted(len(stored), 'stored row')}, each with its file of that size."
        )


def _there(size: int | None, expected: int) -> str:
    return "no file" if size is None else f"{size:,} bytes instead of {expected:,}"


def _files_without_rows(
    stored: Mapping[str, int], files: Sequence[BlobFile], catalog: Catalog
) -> Finding:
    suspects = [file for file in files if str(file.digest) not in stored]
    if suspects:
        time.sleep(_SECOND_LOOK_SECONDS)
        now = dict(inventory.stored_blobs(catalog))
        with catalog.begin() as tx:
            leased, resolving = inventory.leased(tx), inventory.is_resolving(tx)
        suspects = [
            file
            for file in suspects
            if file.digest is None
            or (str(file.digest) not in now and file.digest not in leased and not resolving)
        ]
    if suspects:
        return finding(
            "files",
            "warning",
            f"{counted(len(suspects), 'file')} under blobs/ without a row or a lease, "
            f"{_total(suspects)}, of pulls that ended in between: pull their image again, which "
            "adopts them, or remove them.",
            [file.path for file in suspects],
        )
    return Finding("files", "ok", f"{counted(len(files), 'file')} under blobs/, each with its row.")


def _ingests(volume: Volume, catalog: Catalog) -> Finding:
    found = ingest_files(volume)
    with catalog.begin() as tx:
        leased, resolving = inventory.leased(tx), inventory.is_resolving(tx)
    left = [
        one for one in found if one.digest not in leased and not (one.documents_only and resolving)
    ]
    if left:
        # Committed, or begun, while we looked.
        time.sleep(_SECOND_LOOK_SECONDS)
        still = {one.path for one in ingest_files(volume)}
        with catalog.begin() as tx:
            leased = inventory.leased(tx)
        left = [one for one in left if one.path in still and one.digest not in leased]
    if left:
        return finding(
            "ingests",
            "warning",
            f"{counted(len(left), 'download')} under ingest/ that nobody owns, {_total(left)}: "
            "harmless, and continued when the blob is wanted again; else remove them.",
            [f"{one.path}: {one.size_bytes:,} bytes" for one in left],
        )
    return Finding(
        "ingests", "ok", f"{counted(len(found), 'download')} under ingest/, each with its lease."
    )


def _total(files: Sequence[BlobFile | IngestFiles]) -> str:
    return counted(sum(file.size_bytes for file in files), "byte")


def _layouts(volume: Volume, catalog: Catalog) -> Finding:
    with catalog.begin() as tx:
        images = inventory.image_names(tx)
    wrong = [image for image in images if not _names(volume, image)]
    if wrong:
        # The layout is written before the row.
        time.sleep(_SECOND_LOOK_SECONDS)
        with catalog.begin() as tx:
            now = set(inventory.image_names(tx))
        wrong = [image for image in wrong if image in now and not _names(volume, image)]
    if wrong:
        return finding(
            "layouts",
            "problem",
            f"{counted(len(wrong), 'image')} whose layout directory does not name its manifest: "
            "pull it again.",
            [f"{image.reference} {image.platform} {image.manifest_digest}" for image in wrong],
        )
    return Finding(
        "layouts", "ok", f"{counted(len(images), 'image')}, each laid out with its manifest."
    )


def _names(volume: Volume, image: ImageName) -> bool:
    try:
        named = layout_manifest(
            volume, Reference.parse(image.reference), Platform.parse(image.platform)
        )
    except (InvalidReference, InvalidPlatform):
        return False
    return str(named) == image.manifest_digest


def _hashes(volume: Volume, files: Sequence[BlobFile], progress: Progress) -> Finding:
    total = sum(file.size_bytes for file in files)
    read = 0

    def beat(count: int) -> None:
        nonlocal read
        read += count
        progress(read, total)

    progress(0, total)
    wrong = [
        file.path
        for file in files
        if file.digest is None or names_itself(volume, file.digest, beat) is False
    ]
    if wrong:
        return finding(
            "bytes",
            "problem",
            f"{counted(len(wrong), 'file')} under blobs/ whose bytes do not hash to the name: "
            f"{_FETCH_AGAIN}.",
            wrong,
        )
    return Finding(
        "bytes",
        "ok",
        f"{counted(len(files), 'blob')} of {total:,} bytes were read, and each hashes to its name.",
    )

"""The invariants, proved row by row and byte by byte. Reads only.

    every name under blobs/ hashes to itself
    every stored row has its file with that size, and every file its row or a lease
    every ingest has an owner
    every image's layout names its manifest, and nothing points at what is not stored
    no layer is known to uncompress to something else than an image claims
    bytes fetched are at most the unique bytes and one chunk for every start

A fleet at work changes while this looks, so what seems broken is looked at once more. Rows and
files come in pages, and only the first of what is wrong is kept: a volume may hold millions.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from shared.catalog import audit, blobs, diff_ids, images, inventory
from shared.catalog.database import Catalog
from shared.catalog.images import ImageRow
from shared.catalog.paging import PAGE, pages
from shared.errors import InvalidPlatform, InvalidReference
from shared.oci.digest import Digest
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from shared.volume.inventory import (
    BlobFile,
    IngestFiles,
    blob_files,
    blob_sizes,
    ingest_files,
    is_left,
    names_itself,
)
from shared.volume.layout import layout_manifest
from shared.volume.store import Volume
from workers.examining.finding import Evidence, Finding, counted, finding

# As long as a step between a file and its row, or a layout and its row, takes.
_SECOND_LOOK_SECONDS = 1.0

Progress = Callable[[int, int], None]
Value = TypeVar("Value")

# A pull finds the wrong file under the name then, and puts it into quarantine.
_FETCH_AGAIN = (
    "run UPDATE blobs SET stored_at = NULL WHERE digest = '…' in the catalog for each, and pull "
    "the images that hold it again"
)


def rows(catalog: Catalog, chunk_bytes: int) -> Iterator[Finding]:
    """What the catalog alone can tell."""
    unbacked, contradicted = Evidence(), Evidence()
    for page in pages(catalog, images.listing):
        with catalog.begin() as tx:
            for missing in audit.unbacked(tx, page):
                unbacked.add(f"{missing.reference} {missing.platform} {missing.digest}")
            for wrong in diff_ids.contradicted(tx, page):
                contradicted.add(
                    f"{wrong.reference} {wrong.platform} {wrong.digest}: {wrong.actual} instead of "
                    f"{wrong.diff_id}"
                )
    yield _backing(unbacked)
    yield _claims(contradicted)
    yield _traffic(catalog, chunk_bytes)


def _backing(unbacked: Evidence) -> Finding:
    if unbacked.count:
        return finding(
            "images",
            "problem",
            f"{counted(unbacked.count, 'blob')} of images that are linked are not stored: pull "
            "those images again.",
            unbacked.details,
        )
    return Finding("images", "ok", "Every blob of every image is stored.")


def _claims(contradicted: Evidence) -> Finding:
    if contradicted.count:
        return finding(
            "diff_ids",
            "warning",
            f"{counted(contradicted.count, 'layer')} of images that were linked unverified: what "
            "they uncompress to is not what the image's config claims, so the image is damaged.",
            contradicted.details,
        )
    return Finding("diff_ids", "ok", "No diff_id that was verified contradicts an image.")


def _traffic(catalog: Catalog, chunk_bytes: int) -> Finding:
    total, sizes, over = 0, 0, Evidence()
    for page in pages(catalog, audit.pulled_digests):
        with catalog.begin() as tx:
            fetched = audit.fetched(tx, page)
        total += sum(one.bytes_fetched for one in fetched)
        sizes += sum({one.digest: one.size_bytes for one in fetched}.values())
        for one in fetched:
            if one.bytes_fetched > one.size_bytes + chunk_bytes * one.starts:
                over.add(
                    f"{one.digest} from {one.registry}: {one.bytes_fetched:,} bytes for "
                    f"{one.size_bytes:,} in {counted(one.starts, 'start')}"
                )
    if over.count:
        return finding(
            "traffic",
            "warning",
            f"{counted(over.count, 'layer')} came with more bytes than its size and one chunk for "
            "each start: its registry ignores ranges, served wrong bytes, or the blob was fetched "
            "again after it was removed.",
            over.details,
        )
    ratio = f", {total / sizes:.3f} times" if sizes else ""
    return Finding(
        "traffic",
        "ok",
        f"{total:,} bytes were fetched for {sizes:,} bytes of distinct layers{ratio}.",
    )


def bytes_and_rows(volume: Volume, catalog: Catalog, progress: Progress) -> Iterator[Finding]:
    """The volume against the catalog. Raises VolumeUnavailable, CatalogUnavailable."""
    yield _rows_without_files(volume, catalog)
    total_bytes, found = _files_without_rows(volume, catalog)
    yield found
    yield _ingests(volume, catalog)
    yield _layouts(volume, catalog)
    yield _hashes(volume, total_bytes, progress)


def _rows_without_files(volume: Volume, catalog: Catalog) -> Finding:
    count, wrong = 0, Evidence()
    for page in pages(catalog, audit.stored_digests):
        count += len(page)
        # A file comes before its row; a row that is removed goes before its file.
        sizes = blob_sizes(volume, page)
        with catalog.begin() as tx:
            still = blobs.stored(tx, page)
        for digest, size in still.items():
            if sizes.get(digest) != size:
                wrong.add(f"{digest}: {_there(sizes.get(digest), size)}")
    if wrong.count:
        return finding(
            "rows",
            "problem",
            f"{counted(wrong.count, 'stored row')} without a file of that size: {_FETCH_AGAIN}.",
            wrong.details,
        )
    return Finding(
        "rows", "ok", f"{counted(count, 'stored row')}, each with its file of that size."
    )


def _there(size: int | None, expected: int) -> str:
    return "no file" if size is None else f"{size:,} bytes instead of {expected:,}"


def _files_without_rows(volume: Volume, catalog: Catalog) -> tuple[int, Finding]:
    """With the bytes of all files."""
    count, total_bytes, left = 0, 0, Evidence()
    for page in _in_pages(blob_files(volume)):
        count += len(page)
        total_bytes += sum(file.size_bytes for file in page)
        for file in _without_row(page, catalog):
            left.add(file.path, file.size_bytes)
    if left.count:
        return total_bytes, finding(
            "files",
            "warning",
            f"{counted(left.count, 'file')} under blobs/ without a row or a lease, "
            f"{counted(left.total_bytes, 'byte')}, of pulls that ended in between: pull their "
            "image again, which adopts them, or remove them.",
            left.details,
        )
    return total_bytes, Finding(
        "files", "ok", f"{counted(count, 'file')} under blobs/, each with its row."
    )


def _without_row(page: Sequence[BlobFile], catalog: Catalog) -> list[BlobFile]:
    def suspects() -> list[BlobFile]:
        digests = [file.digest for file in page if file.digest is not None]
        with catalog.begin() as tx:
            stored = blobs.stored(tx, digests)
        return [file for file in page if file.digest is None or file.digest not in stored]

    if not suspects():
        return []
    time.sleep(_SECOND_LOOK_SECONDS)
    leased, resolving = _at_work(catalog, [file.digest for file in page])
    return [
        file
        for file in suspects()
        if file.digest is None or (file.digest not in leased and not resolving)
    ]


def _at_work(catalog: Catalog, digests: Iterable[Digest | None]) -> tuple[set[Digest], bool]:
    """Which of these have a lease, and whether any pull may be writing a document."""
    with catalog.begin() as tx:
        return inventory.leased(tx, filter(None, digests)), inventory.is_resolving(tx)


def _ingests(volume: Volume, catalog: Catalog) -> Finding:
    count, left = 0, Evidence()
    for page in _in_pages(ingest_files(volume)):
        count += len(page)
        for one in _unowned(volume, catalog, page):
            left.add(f"{one.path}: {one.size_bytes:,} bytes", one.size_bytes)
    if left.count:
        return finding(
            "ingests",
            "warning",
            f"{counted(left.count, 'download')} under ingest/ without an owner, "
            f"{counted(left.total_bytes, 'byte')}: harmless, and continued when the blob is wanted "
            "again; else remove them.",
            left.details,
        )
    return Finding(
        "ingests", "ok", f"{counted(count, 'download')} under ingest/, each with its lease."
    )


def _unowned(volume: Volume, catalog: Catalog, page: Sequence[IngestFiles]) -> list[IngestFiles]:
    leased, resolving = _at_work(catalog, [one.digest for one in page])
    left = [
        one for one in page if one.digest not in leased and not (one.documents_only and resolving)
    ]
    if not left:
        return []
    # Committed, or begun, while we looked.
    time.sleep(_SECOND_LOOK_SECONDS)
    leased, _ = _at_work(catalog, [one.digest for one in left])
    return [one for one in left if one.digest not in leased and is_left(volume, one)]


def _layouts(volume: Volume, catalog: Catalog) -> Finding:
    count, wrong = 0, Evidence()
    for page in pages(catalog, images.listing):
        count += len(page)
        for image in _laid_out_wrong(volume, catalog, page):
            wrong.add(f"{image.reference} {image.platform} {image.manifest_digest}")
    if wrong.count:
        return finding(
            "layouts",
            "problem",
            f"{counted(wrong.count, 'image')} whose layout directory does not name its manifest: "
            "pull it again.",
            wrong.details,
        )
    return Finding("layouts", "ok", f"{counted(count, 'image')}, each laid out with its manifest.")


def _laid_out_wrong(volume: Volume, catalog: Catalog, page: Sequence[ImageRow]) -> list[ImageRow]:
    wrong = [image for image in page if not _names(volume, image)]
    if not wrong:
        return []
    # The layout is written before the row.
    time.sleep(_SECOND_LOOK_SECONDS)
    with catalog.begin() as tx:
        now = [images.current(tx, image.reference, image.platform) for image in wrong]
    return [image for image in now if image is not None and not _names(volume, image)]


def _names(volume: Volume, image: ImageRow) -> bool:
    try:
        named = layout_manifest(
            volume, Reference.parse(image.reference), Platform.parse(image.platform)
        )
    except (InvalidReference, InvalidPlatform):
        return False
    return str(named) == image.manifest_digest


def _hashes(volume: Volume, total: int, progress: Progress) -> Finding:
    count, read, wrong = 0, 0, Evidence()

    def beat(size: int) -> None:
        nonlocal read
        read += size
        progress(min(read, total), total)

    progress(0, total)
    for file in blob_files(volume):
        count += 1
        if file.digest is None or names_itself(volume, file.digest, beat) is False:
            wrong.add(file.path)
    if wrong.count:
        return finding(
            "bytes",
            "problem",
            f"{counted(wrong.count, 'file')} under blobs/ whose bytes do not hash to the name: "
            f"{_FETCH_AGAIN}.",
            wrong.details,
        )
    return Finding(
        "bytes",
        "ok",
        f"{counted(count, 'blob')} of {read:,} bytes were read, and each hashes to its name.",
    )


def _in_pages(found: Iterator[Value]) -> Iterator[list[Value]]:
    while page := list(islice(found, PAGE)):
        yield page

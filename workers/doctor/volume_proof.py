"""The invariants of a fleet, checked row by row and byte by byte. Reads only.

    every file under blobs/ hashes to its name
    every stored row has a file of that size, and every file has a row or a lease
    every ingest has an owner
    the layout of every image names its manifest, and every blob of an image is stored
    no verified diff_id contradicts the claim of an image
    the bytes fetched of a layer are at most its size and one chunk for every start

A working fleet changes during these checks, so what seems broken is checked a second time. Rows and
files are read in pages, and only the first details are kept: a volume may hold millions of blobs.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from shared.catalog.content import diff_ids, image_rows, stored_blobs
from shared.catalog.content.image_rows import ImageRow
from shared.catalog.database.catalog import Catalog
from shared.catalog.database.paging import PAGE, pages
from shared.catalog.reports import audit, doctor_checks
from shared.errors import InvalidPlatform, InvalidReference
from shared.oci.digest import Digest
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from shared.volume.layout import layout_manifest
from shared.volume.listing import (
    BlobFile,
    IngestFiles,
    blob_files,
    blob_sizes,
    ingest_files,
    is_left,
    matches_digest,
)
from shared.volume.store import Volume
from workers.doctor.check_result import CheckResult, Evidence, are, counted

# Longer than a step takes between a file and its row, or between a layout and its row.
_SECOND_LOOK_SECONDS = 1.0

Progress = Callable[[int, int], None]
Value = TypeVar("Value")

# The next pull then finds the wrong file under the name, and moves it to quarantine.
_FETCH_AGAIN = (
    "for each of them, run UPDATE blobs SET stored_at = NULL WHERE digest = '…' in the catalog, "
    "and pull the images again that contain it"
)


def rows(catalog: Catalog, chunk_bytes: int) -> Iterator[CheckResult]:
    """The checks that need only the catalog."""
    unbacked, contradicted = Evidence(), Evidence()
    for page in pages(catalog, image_rows.listing):
        with catalog.begin() as tx:
            for missing in audit.missing_blobs(tx, page):
                unbacked.add(f"{missing.reference} {missing.platform} {missing.digest}")
            for wrong in diff_ids.contradicted(tx, page):
                contradicted.add(
                    f"{wrong.reference} {wrong.platform} {wrong.digest}: {wrong.actual} instead of "
                    f"{wrong.diff_id}"
                )
    yield _backing(unbacked)
    yield _claims(contradicted)
    yield _traffic(catalog, chunk_bytes)


def _backing(unbacked: Evidence) -> CheckResult:
    if unbacked.count:
        return CheckResult(
            "images",
            "problem",
            f"{counted(unbacked.count, 'blob')} of linked images {are(unbacked.count)} not "
            "stored: pull these images again.",
            unbacked.details,
        )
    return CheckResult("images", "ok", "Every blob of every image is stored.")


def _claims(contradicted: Evidence) -> CheckResult:
    if contradicted.count:
        return CheckResult(
            "diff_ids",
            "warning",
            f"{counted(contradicted.count, 'layer')} of images that were linked without "
            "verification: the diff_id is not the one that the image's config claims, so the image "
            "is damaged. Pull it again once its publisher has repaired it.",
            contradicted.details,
        )
    return CheckResult("diff_ids", "ok", "No verified diff_id contradicts an image.")


def _traffic(catalog: Catalog, chunk_bytes: int) -> CheckResult:
    total, sizes, over = 0, 0, Evidence()
    for page in pages(catalog, audit.pulled_digests):
        with catalog.begin() as tx:
            fetched = audit.fetched(tx, page)
        total += sum(layer.bytes_fetched for layer in fetched)
        sizes += sum({layer.digest: layer.size_bytes for layer in fetched}.values())
        for layer in fetched:
            if layer.bytes_fetched > layer.size_bytes + chunk_bytes * layer.starts:
                over.add(
                    f"{layer.digest} from {layer.registry}: {layer.bytes_fetched:,} bytes for "
                    f"{layer.size_bytes:,} in {counted(layer.starts, 'start')}"
                )
    if over.count:
        return CheckResult(
            "traffic",
            "warning",
            f"{counted(over.count, 'layer')} with more fetched bytes than its size and one chunk "
            "for each start. Either its registry ignores ranges or served wrong bytes, or the blob "
            "was removed and fetched again.",
            over.details,
        )
    ratio = f" ({total / sizes:.3f} times)" if sizes else ""
    return CheckResult(
        "traffic",
        "ok",
        f"{total:,} bytes were fetched for {sizes:,} bytes of distinct layers{ratio}.",
    )


def bytes_and_rows(volume: Volume, catalog: Catalog, progress: Progress) -> Iterator[CheckResult]:
    """The checks that compare the volume with the catalog.

    Raises VolumeUnavailable, CatalogUnavailable.
    """
    yield _rows_without_files(volume, catalog)
    total_bytes, found = _files_without_rows(volume, catalog)
    yield found
    yield _ingests(volume, catalog)
    yield _layouts(volume, catalog)
    yield _hashes(volume, total_bytes, progress)


def _rows_without_files(volume: Volume, catalog: Catalog) -> CheckResult:
    count, wrong = 0, Evidence()
    for page in pages(catalog, audit.stored_digests):
        count += len(page)
        # A file is written before its row, and a row is removed before its file. So read the sizes
        # first, and then compare only the rows that still exist.
        sizes = blob_sizes(volume, page)
        with catalog.begin() as tx:
            still = stored_blobs.stored(tx, page)
        for digest, size in still.items():
            if sizes.get(digest) != size:
                wrong.add(f"{digest}: {_difference(sizes.get(digest), size)}")
    if wrong.count:
        return CheckResult(
            "rows",
            "problem",
            f"{counted(wrong.count, 'stored blob')} without a file of that size: {_FETCH_AGAIN}.",
            wrong.details,
        )
    return CheckResult(
        "rows", "ok", f"{counted(count, 'stored blob')}, each with a file of that size."
    )


def _difference(size: int | None, expected: int) -> str:
    return "no file" if size is None else f"{size:,} bytes instead of {expected:,}"


def _files_without_rows(volume: Volume, catalog: Catalog) -> tuple[int, CheckResult]:
    """How many bytes all files have together, and the finding about files without rows."""
    count, total_bytes, left = 0, 0, Evidence()
    for page in _in_pages(blob_files(volume)):
        count += len(page)
        total_bytes += sum(file.size_bytes for file in page)
        for file in _without_row(page, catalog):
            left.add(file.path, file.size_bytes)
    if left.count:
        return total_bytes, CheckResult(
            "files",
            "warning",
            f"{counted(left.count, 'file')} ({counted(left.total_bytes, 'byte')}) under blobs/ "
            "without a row or a lease, left by pulls that ended before the row was written: pull "
            "the image again, which adopts them, or remove them.",
            left.details,
        )
    return total_bytes, CheckResult(
        "files", "ok", f"{counted(count, 'file')} under blobs/, each with its row."
    )


def _without_row(page: Sequence[BlobFile], catalog: Catalog) -> list[BlobFile]:
    def suspects() -> list[BlobFile]:
        digests = [file.digest for file in page if file.digest is not None]
        with catalog.begin() as tx:
            stored = stored_blobs.stored(tx, digests)
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
    """Which of these have a lease, and whether any pull may be writing a document.

    Documents (indexes, manifests, configs) are written without a lease on the blob.
    """
    with catalog.begin() as tx:
        return doctor_checks.leased(tx, filter(None, digests)), doctor_checks.is_resolving(tx)


def _ingests(volume: Volume, catalog: Catalog) -> CheckResult:
    count, left = 0, Evidence()
    for page in _in_pages(ingest_files(volume)):
        count += len(page)
        for ingest in _unowned(volume, catalog, page):
            left.add(f"{ingest.path}: {ingest.size_bytes:,} bytes", ingest.size_bytes)
    if left.count:
        return CheckResult(
            "ingests",
            "warning",
            f"{counted(left.count, 'download')} ({counted(left.total_bytes, 'byte')}) under "
            "ingest/ without an owner. They are harmless, and the next pull that wants the blob "
            "continues them: remove those that will not be wanted.",
            left.details,
        )
    return CheckResult(
        "ingests", "ok", f"{counted(count, 'download')} under ingest/, each with a lease."
    )


def _unowned(volume: Volume, catalog: Catalog, page: Sequence[IngestFiles]) -> list[IngestFiles]:
    leased, resolving = _at_work(catalog, [ingest.digest for ingest in page])
    left = [
        ingest
        for ingest in page
        if ingest.digest not in leased and not (ingest.documents_only and resolving)
    ]
    if not left:
        return []
    # It may have been committed or begun during the check.
    time.sleep(_SECOND_LOOK_SECONDS)
    leased, _ = _at_work(catalog, [ingest.digest for ingest in left])
    return [ingest for ingest in left if ingest.digest not in leased and is_left(volume, ingest)]


def _layouts(volume: Volume, catalog: Catalog) -> CheckResult:
    count, wrong = 0, Evidence()
    for page in pages(catalog, image_rows.listing):
        count += len(page)
        for image in _laid_out_wrong(volume, catalog, page):
            wrong.add(f"{image.reference} {image.platform} {image.manifest_digest}")
    if wrong.count:
        return CheckResult(
            "layouts",
            "problem",
            f"{counted(wrong.count, 'image')} whose layout directory does not name the manifest of "
            "the catalog: pull the image again.",
            wrong.details,
        )
    return CheckResult(
        "layouts", "ok", f"{counted(count, 'image')}, each with a layout of its manifest."
    )


def _laid_out_wrong(volume: Volume, catalog: Catalog, page: Sequence[ImageRow]) -> list[ImageRow]:
    wrong = [image for image in page if not _names(volume, image)]
    if not wrong:
        return []
    # The layout is written before the row, so wait for the row.
    time.sleep(_SECOND_LOOK_SECONDS)
    with catalog.begin() as tx:
        now = [image_rows.current(tx, image.reference, image.platform) for image in wrong]
    return [image for image in now if image is not None and not _names(volume, image)]


def _names(volume: Volume, image: ImageRow) -> bool:
    try:
        named = layout_manifest(
            volume, Reference.parse(image.reference), Platform.parse(image.platform)
        )
    except (InvalidReference, InvalidPlatform):
        return False
    return str(named) == image.manifest_digest


def _hashes(volume: Volume, total: int, progress: Progress) -> CheckResult:
    count, read, wrong = 0, 0, Evidence()

    def beat(size: int) -> None:
        nonlocal read
        read += size
        progress(min(read, total), total)

    progress(0, total)
    for file in blob_files(volume):
        count += 1
        if file.digest is None or matches_digest(volume, file.digest, beat) is False:
            wrong.add(file.path)
    if wrong.count:
        return CheckResult(
            "bytes",
            "problem",
            f"{counted(wrong.count, 'file')} under blobs/ whose bytes do not hash to the file's "
            f"name: {_FETCH_AGAIN}.",
            wrong.details,
        )
    return CheckResult(
        "bytes",
        "ok",
        f"{counted(count, 'blob')} ({read:,} bytes) were read, and each hashes to its name.",
    )


def _in_pages(found: Iterator[Value]) -> Iterator[list[Value]]:
    while page := list(islice(found, PAGE)):
        yield page

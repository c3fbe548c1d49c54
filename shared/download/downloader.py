"""The engine: downloads one blob into an ingest, and resumes after broken responses.

A small blob is one plain request. A large blob is cut into ranges for several connections
(`parallel.py`), if the host can serve ranges.

After a response that broke, what happens next depends on whether it brought new bytes. If it did,
the next request follows at once. If not, another host is asked; if there is none, the error is
raised and the caller decides when to retry. `shared/registry/blob_sources.py` says which bodies are
valid. A download that was stopped always raises the reason of the stop, whatever else broke.
"""

from contextlib import nullcontext

from shared.download.parallel import ParallelDownload
from shared.download.progress import Progress
from shared.download.source import Source, request_body
from shared.download.whole_bodies import write_body
from shared.errors import BlobTruncated, DigestMismatch, RegistryUnavailable, SizeMismatch
from shared.registry.bodies import BlobBody
from shared.volume.ingest.ingest import Ingest

MIB = 1024 * 1024

# From this size on, background threads and further connections are worth their start-up.
_LARGE_BYTES = 8 * MIB
# The fsync of a large file on a slow network volume takes minutes, with no activity to report.
_COMMIT_SECONDS = 600.0


def download(
    source: Source,
    ingest: Ingest,
    progress: Progress,
    connections: int = 1,
    chunk_bytes: int = 16 * MIB,
) -> None:
    """Fill the ingest and commit it.

    Uses at most `connections` connections, and ranges of about `chunk_bytes`.

    Raises:
      - BlobTruncated or RegistryUnavailable after a response without progress,
      - SizeMismatch; the bytes stay in the ingest if some are still missing,
      - DigestMismatch; the bytes are dropped,
      - whatever the source raises, and the reason of `progress.stop()`.
    """
    progress.at(ingest.offset)
    # After a mismatch, the bytes of an earlier owner may be wrong rather than the registry's. So
    # a blob with inherited bytes is fetched once more as a whole before the host is excluded.
    inherited = ingest.inherited_bytes > 0
    is_large = ingest.size - ingest.offset >= _LARGE_BYTES
    with ingest.in_background() if is_large else nullcontext():
        while True:
            try:
                _fill(source, ingest, progress, connections, chunk_bytes)
                progress.expect_silence(_COMMIT_SECONDS)
                ingest.commit()
            except (SizeMismatch, DigestMismatch) as error:
                is_wrong = isinstance(error, DigestMismatch)
                # A response of the wrong size does not make the bytes of other responses wrong.
                # While the blob is incomplete, these bytes are kept; the digest decides about them
                # at the end.
                dropped = is_wrong or not ingest.gaps()
                if dropped:
                    ingest.restart()
                if is_wrong and inherited:
                    inherited = False
                elif not source.exclude():
                    if dropped:
                        # Fetching the same bytes again must not count as progress.
                        progress.at(ingest.size)
                        progress.at(0)
                    raise
            else:
                return


def _fill(
    source: Source, ingest: Ingest, progress: Progress, connections: int, chunk_bytes: int
) -> None:
    is_large = ingest.size - ingest.offset > min(chunk_bytes, _LARGE_BYTES)
    if connections > 1 and is_large and source.serves_ranges:
        ParallelDownload(source, ingest, progress, connections, chunk_bytes).run()
    _fill_alone(source, ingest, progress)


def _fill_alone(source: Source, ingest: Ingest, progress: Progress) -> None:
    """Fetch over one connection: one response after the other, each for the first gap."""
    reached = ingest.offset

    def took(_count: int) -> None:
        progress.at(ingest.offset)

    while gaps := ingest.gaps():
        body: BlobBody | None = None
        try:
            progress.beat()
            with request_body(source, *gaps[0], progress) as body, progress.reading(body):
                write_body(body, ingest, progress, took)
        except (BlobTruncated, RegistryUnavailable):
            # A stop aborts the body. That is not an error of the registry: raise its reason.
            progress.check()
            # Progress is measured by the bytes on disk. Otherwise a registry that ignores Range
            # and always breaks at the same offset would be asked forever.
            if ingest.offset > reached:
                reached = ingest.offset
            elif body is None or not source.exclude(body):
                # Without a body the request itself failed, on every host: there is no other left.
                raise

"""The engine: moves one blob from whoever serves it into an ingest, and resumes what broke.

A small blob is one plain request; a large one is cut into ranges for several connections
(`swarm.py`), where the host can do that. A response that brought new bytes and then broke is
followed by the next one at once; one that brought none is followed by another host, or raises, and
whoever called decides when to try again. What a body may be: `shared/registry/blobs.py`.
A download that is told to stop ends with the reason it was told, whatever broke on the way.
"""

from contextlib import nullcontext

from shared.download.bodies import take_in
from shared.download.progress import Progress
from shared.download.source import Source, ask
from shared.download.swarm import Swarm
from shared.errors import BlobTruncated, DigestMismatch, RegistryUnavailable, SizeMismatch
from shared.registry.client import BlobBody
from shared.volume.ingest import Ingest

MIB = 1024 * 1024

# Threads that hash and write back are worth their start from here on, and so are connections.
_LARGE_BYTES = 8 * MIB
# The fsync of a large file on a slow network volume takes minutes and tells nothing meanwhile.
_COMMIT_SECONDS = 600.0


def download(
    source: Source,
    ingest: Ingest,
    progress: Progress,
    connections: int = 1,
    chunk_bytes: int = 16 * MIB,
) -> None:
    """Fill the ingest and commit it, over at most so many connections in ranges of that size.

    Raises BlobTruncated or RegistryUnavailable after a response without progress, SizeMismatch
    (the bytes stay in the ingest as long as some are missing), DigestMismatch (they are dropped),
    what the source raises, and the reason of `progress.stop()`.
    """
    progress.at(ingest.offset)
    # Bytes of an earlier owner may be what is wrong, not the registry: fetch it whole once.
    inherited = ingest.inherited_bytes > 0
    is_large = ingest.size - ingest.offset >= _LARGE_BYTES
    with ingest.in_background() if is_large else nullcontext():
        while True:
            try:
                _fill(source, ingest, progress, connections, chunk_bytes)
                progress.wait_until_done(_COMMIT_SECONDS)
                ingest.commit()
            except (SizeMismatch, DigestMismatch) as error:
                is_wrong = isinstance(error, DigestMismatch)
                # One odd answer says nothing of the bytes that others brought: the digest will.
                dropped = is_wrong or not ingest.gaps()
                if dropped:
                    ingest.restart()
                if is_wrong and inherited:
                    inherited = False
                elif not source.blame():
                    if dropped:
                        # Coming as far again is no progress.
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
        Swarm(source, ingest, progress, connections, chunk_bytes).run()
    _fill_alone(source, ingest, progress)


def _fill_alone(source: Source, ingest: Ingest, progress: Progress) -> None:
    """One response after another, each for the first gap."""
    reached = ingest.offset

    def took(_count: int) -> None:
        progress.at(ingest.offset)

    while gaps := ingest.gaps():
        body: BlobBody | None = None
        try:
            progress.beat()
            with ask(source, *gaps[0], progress) as body, progress.reading(body):
                take_in(body, ingest, progress, took)
        except (BlobTruncated, RegistryUnavailable):
            # A stop breaks the body off: that is no error of the registry, and nothing to resume.
            progress.check()
            # Progress is measured against what is there: a registry that ignores Range and always
            # breaks at the same place would otherwise be asked for ever.
            if ingest.offset > reached:
                reached = ingest.offset
            elif body is None or not source.blame(body):
                # A request that failed was tried with everybody there is.
                raise

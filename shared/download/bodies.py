"""A body on its way into an ingest."""

from collections.abc import Callable

from shared.download.progress import Progress
from shared.errors import BlobTruncated, SizeMismatch
from shared.registry.bodies import BLOCK_BYTES, BlobBody
from shared.volume.ingest import Ingest


def take_in(
    body: BlobBody,
    ingest: Ingest,
    progress: Progress,
    took: Callable[[int], None],
    block_bytes: int = BLOCK_BYTES,
) -> None:
    """Write a body where it belongs, in blocks of at most so many bytes; what is there already is
    passed over. `took(n)`: n new bytes.

    Raises BlobTruncated where it ends early, SizeMismatch where it does not end, what its blocks
    raise, and the reason of `progress.stop()`: before anything more is written.
    """
    gaps = ingest.missing(body.first, body.end)
    at, writer = body.first, ingest.writer(body.first)
    try:
        for block in body.blocks(block_bytes):
            progress.received(len(block))
            if at + len(block) > body.end:
                raise SizeMismatch(
                    f"The registry sends more of {ingest.digest} than was asked for."
                )
            for first, end in gaps:
                low, high = max(first, at), min(end, at + len(block))
                if low >= high:
                    continue
                if writer.offset != low:
                    writer.close()
                    writer = ingest.writer(low)
                writer.write(block if high - low == len(block) else block[low - at : high - at])
                took(high - low)
            at += len(block)
            # The next one takes its place in memory.
            del block
    finally:
        writer.close()
    if at < body.end:
        raise BlobTruncated(
            f"The registry ended the body of {ingest.digest} at byte {at} of {body.end}."
        )

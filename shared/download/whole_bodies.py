"""Writes one response body into an ingest."""

from collections.abc import Callable

from shared.download.progress import Progress
from shared.errors import BlobTruncated, SizeMismatch
from shared.registry.bodies import BLOCK_BYTES, BlobBody
from shared.volume.ingest.ingest import Ingest


def write_body(
    body: BlobBody,
    ingest: Ingest,
    progress: Progress,
    took: Callable[[int], None],
    block_bytes: int = BLOCK_BYTES,
) -> None:
    """Write a body at its offset, in blocks of at most `block_bytes`.

    Bytes that are already on disk are skipped. `took(n)` is called after n new bytes were written.

    Raises BlobTruncated if the body ends early, SizeMismatch if it is too long, whatever reading it
    raises, and the reason of `progress.stop()`. After a stop nothing more is written.
    """
    gaps = ingest.missing(body.first, body.end)
    at, writer = body.first, ingest.writer(body.first)
    try:
        for block in body.blocks(block_bytes):
            progress.received(len(block))
            if at + len(block) > body.end:
                raise SizeMismatch(
                    f"The registry sends more of {ingest.digest} than was requested."
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
            # Free this block before the next is read: only one is in memory.
            del block
    finally:
        writer.close()
    if at < body.end:
        raise BlobTruncated(
            f"The registry ended the body of {ingest.digest} at byte {at} of {body.end}."
        )

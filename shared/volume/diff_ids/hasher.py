"""Computes a layer's diff_id: the digest of its decompressed bytes, which are not kept.

It works in steps of bounded size, whatever the input is. So a decompression bomb costs time but no
memory, and the caller can stop between two steps or leave the rest to another thread.
Source: image-spec v1.1, "Layer DiffID".
"""

import errno
import hashlib
from collections.abc import Callable, Iterator

from shared.oci.digest import Digest
from shared.volume.diff_ids.decoders import (
    MAGIC_BYTES,
    Decoder,
    NotCompressed,
    Undecodable,
    decoder_of,
)

# `read(first, count)` returns bytes of the blob.
Read = Callable[[int, int], bytes]

_BLOCK_BYTES = 64 * 1024


class DiffIdHasher:
    """Computes the diff_id of the blob `digest`, of `size` bytes, with `algorithm`.

    `diff_id`: None until the result is known. `fault`: why the bytes cannot be decompressed; it
    completes "the layer cannot be decompressed: …". At most one of the two is ever set.
    """

    def __init__(self, digest: Digest, size: int, algorithm: str) -> None:
        self.diff_id: Digest | None = None
        self.fault: str | None = None
        self._digest = digest
        self._size = size
        self._algorithm = algorithm
        self._hasher = hashlib.new(algorithm)
        self._decoder: Decoder | None = None
        self._pieces: Iterator[bytes] = iter(())
        # The next byte of the blob to read. `_pieces` may hold output that is not hashed yet.
        self._position = 0

    def step(self, read: Read, end: int) -> bool:
        """Take one step, given that the first `end` bytes of the blob are on disk.

        Returns False if the result is known or more bytes are needed. Raises OSError from `read`;
        then the same step may be taken again.
        """
        if self.diff_id is not None or self.fault is not None:
            return False
        try:
            piece = next(self._pieces, None)
            if piece is not None:
                self._hasher.update(piece)
                return True
            return self._read_next(read, end)
        except Undecodable as error:
            self.fault = str(error)
            return False

    def _read_next(self, read: Read, end: int) -> bool:
        if self._decoder is None:
            if end < min(MAGIC_BYTES, self._size):
                return False
            self._begin(read)
            return True
        if self._position == self._size:
            self._decoder.end()
            self.diff_id = Digest(self._algorithm, self._hasher.hexdigest())
            return False
        if self._position >= end:
            return False
        block = self._read_at(read, min(_BLOCK_BYTES, end - self._position))
        self._position += len(block)
        self._pieces = self._decoder.pieces(block)
        return True

    def _begin(self, read: Read) -> None:
        head = self._read_at(read, min(MAGIC_BYTES, self._size)) if self._size else b""
        self._decoder = decoder_of(head)
        if self._decoder is None:
            self._decoder = NotCompressed()
            if self._algorithm == self._digest.algorithm:
                # The diff_id of an uncompressed layer is its digest, which the commit verifies.
                self.diff_id = self._digest

    def _read_at(self, read: Read, count: int) -> bytes:
        block = read(self._position, count)
        if not block:
            raise OSError(errno.EIO, "bytes that were written are not there")
        return block

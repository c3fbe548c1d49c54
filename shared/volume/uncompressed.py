"""What a layer's bytes uncompress to, hashed and thrown away: its diff_id.

In steps that are bounded whatever the bytes are, so that a bomb costs time and nothing else, and
whoever takes the steps can stop, or leave the rest to another.
Source: image-spec v1.1, "Layer DiffID".
"""

import errno
import hashlib
from collections.abc import Callable, Iterator

from shared.oci.digest import Digest
from shared.volume.decoding import MAGIC_BYTES, Decoder, Plain, Undecodable, decoder_of

# `read(first, count)` gives bytes of the blob.
Read = Callable[[int, int], bytes]

_BLOCK_BYTES = 64 * 1024


class Uncompressed:
    """The diff_id of the blob `digest` of `size` bytes, in this algorithm.

    `diff_id`: None until every byte was seen. `fault`: why there is none, for bytes that do not
    decompress; it completes "the layer cannot be decompressed: …".
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
        # Of the blob; what `_pieces` still holds is not hashed yet.
        self._position = 0

    def step(self, read: Read, end: int) -> bool:
        """One step, with the first `end` bytes of the blob there; False where there is none to do.

        Raises OSError from `read`; the same step may be tried again.
        """
        if self.diff_id is not None or self.fault is not None:
            return False
        try:
            piece = next(self._pieces, None)
            if piece is not None:
                self._hasher.update(piece)
                return True
            return self._read_on(read, end)
        except Undecodable as error:
            self.fault = str(error)
            return False

    def _read_on(self, read: Read, end: int) -> bool:
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
            self._decoder = Plain()
            if self._algorithm == self._digest.algorithm:
                # The same bytes have the same digest; the blob's own is verified.
                self.diff_id = self._digest

    def _read_at(self, read: Read, count: int) -> bytes:
        block = read(self._position, count)
        if not block:
            raise OSError(errno.EIO, "bytes that were written are not there")
        return block

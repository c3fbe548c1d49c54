"""Response bodies: small ones are read in full up to a limit, blobs block by block.

Bodies are never decoded. Ranges, sizes and digests refer to the bytes as stored (RFC 9110 §14), so
a response with a Content-Encoding, which was not requested, is refused.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType

import requests
import urllib3

from shared.errors import BlobTruncated, RegistryUnavailable, TooLarge
from shared.registry.host_requests import OpenResponse
from shared.registry.responses import refuse_encoding

# The default block. Not larger, since a process has dozens of connections and each one holds a few
# blocks in memory.
BLOCK_BYTES = 256 * 1024
# The first block, and the least for a slow connection.
_LEAST_BLOCK_BYTES = 32 * 1024


class BlobBody:
    """The bytes of a blob from `first` to `end`, exclusive. A context manager.

    `place`: the host that serves it, for `BlobSource.exclude`.
    """

    def __init__(
        self, opened: OpenResponse, first: int, end: int, name: str, place: object
    ) -> None:
        self.first = first
        self.end = end
        self.place = place
        self._opened = opened
        self._response = response = opened.response
        self._name = name
        self._interrupted = False
        self._aborted = threading.Event()
        # Held while the socket is closed or shut down.
        self._closing = threading.Lock()
        self._socket: socket.socket | None = _duplicate_socket(response, name)

    def __enter__(self) -> "BlobBody":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._closing:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
        # A body that was read to its end has returned its connection to the pool already.
        self._opened.close()

    def distrust(self) -> None:
        """Mark this host as unreachable for the whole fleet, since its bytes were unusable."""
        self._opened.permit.mark_unreachable()

    def abort(self) -> None:
        """End the read, or the wait for bandwidth, at once: `blocks()` raises BlobTruncated.

        Call it from any thread, at any time. Does nothing after the end of the body.
        """
        self.break_off()
        self._aborted.set()

    def break_off(self) -> None:
        """End the read as `abort()` does, but let a wait for bandwidth finish.

        Use it for a download that continues on another connection: if such waits were cut short,
        the fleet would read faster than its limit.
        """
        self._interrupted = True
        with self._closing:
            # A connection that is back in the pool may carry another body by now, and must not be
            # shut down. If it returns to the pool between this check and the shutdown, the other
            # body ends early, and its download continues from there.
            if self._socket is not None and self._response.raw.connection is not None:
                with suppress(OSError):  # the registry has closed the connection
                    self._socket.shutdown(socket.SHUT_RDWR)

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
        """The raw bytes as they arrive, at the speed that the bandwidth limit allows.

        Ends where the body ends; the caller must check that all bytes arrived. Raises BlobTruncated
        if the connection is lost, RegistryUnavailable if it stalls; both only after all bytes that
        were received.
        """
        read_bytes = min(_LEAST_BLOCK_BYTES, block_bytes)
        while not self._interrupted:
            try:
                # `read1` reads the socket once, so an error never discards bytes that have arrived.
                block = self._response.raw.read1(read_bytes, decode_content=False)
            except urllib3.exceptions.ReadTimeoutError as error:
                raise RegistryUnavailable(
                    f"{self._name} stalled: no byte arrived within the stall time-out."
                ) from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise BlobTruncated(
                    f"The body of {self._name} is incomplete: the connection was lost."
                ) from error
            if block:
                if seconds := self._opened.permit.received(len(block)):
                    # `break_off()` does not cut this wait short, only `abort()` does.
                    self._aborted.wait(seconds)
                # Adapt the size to the connection. A buffer of `read_bytes` is allocated for each
                # read, and shrinking it afterwards would fragment the heap.
                if len(block) == read_bytes:
                    read_bytes = min(2 * read_bytes, block_bytes)
                elif len(block) < read_bytes // 2:
                    read_bytes = max(read_bytes // 2, min(_LEAST_BLOCK_BYTES, block_bytes))
                yield block
                # Let the next block reuse this memory.
                del block
            elif not self._interrupted:
                return
        raise BlobTruncated(f"The body of {self._name} was aborted.")


def _duplicate_socket(response: requests.Response, name: str) -> socket.socket:
    """The connection of a response under a file descriptor of our own, to shut it down with.

    The number of urllib3's descriptor may be closed and reused at any time; ours cannot be. Also,
    the shutdown must happen below TLS: SSLSocket.shutdown(), which urllib3's
    HTTPResponse.shutdown() calls, drops the cipher during a read in another thread, and that read
    would then return ciphertext.
    """
    try:
        return socket.socket(fileno=os.dup(response.raw.fileno()))
    except OSError as error:
        raise RegistryUnavailable(
            f"{name} cannot be read: this worker has no file descriptor left."
        ) from error


def read_whole(response: requests.Response, limit_bytes: int, what: str) -> bytes:
    """A small body in full.

    Raises TooLarge, and RegistryUnavailable if the body is empty or the connection is lost.
    """
    refuse_encoding(response, what)
    raw = bytearray()
    try:
        # Only the read after the last byte shows whether the body is complete.
        while block := response.raw.read1(BLOCK_BYTES, decode_content=False):
            raw += block
            if len(raw) > limit_bytes:
                raise TooLarge(f"{what} is larger than {limit_bytes} bytes.")
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise RegistryUnavailable(f"{what} is incomplete: the connection was lost.") from error
    if not raw:
        raise RegistryUnavailable(
            f"{what} was answered without a body: check for a proxy between the workers and the "
            "registry."
        )
    return bytes(raw)

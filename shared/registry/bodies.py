"""The bodies of answers: small ones read whole and capped, blobs as they arrive.

Nothing is decoded on the way: ranges, sizes and digests are about the bytes as stored
(RFC 9110 §14), so a Content-Encoding that nobody asked for is refused.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType

import requests
import urllib3

from shared.errors import BlobTruncated, RegistryUnavailable, SizeMismatch, TooLarge
from shared.registry.asking import Answer
from shared.registry.responses import ContentRange

# Unless the caller says so: connections come by the dozen, and each holds a few of them.
BLOCK_BYTES = 256 * 1024
# What a slow connection brings at a time.
_LEAST_BLOCK_BYTES = 32 * 1024


class BlobBody:
    """The body of a blob from byte `first` up to, without, `end`. Use it as a context manager.

    `place`: who served it, for `BlobSource.blame`.
    """

    def __init__(self, answer: Answer, first: int, end: int, name: str, place: object) -> None:
        self.first = first
        self.end = end
        self.place = place
        self._answer = answer
        self._response = response = answer.response
        self._name = name
        self._broken_off = False
        self._aborted = threading.Event()
        self._closing = threading.Lock()
        self._socket: socket.socket | None = _socket_below(response, name)

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
        # A body that was read to its end has given its connection back already.
        self._answer.close()

    def distrust(self) -> None:
        """What came was of no use: nobody asks this host for a while."""
        self._answer.permit.bury()

    def abort(self) -> None:
        """End the read, or the wait for bandwidth, at once: `blocks()` raises BlobTruncated.

        For other threads, at any time; harmless when the body has ended.
        """
        self.break_off()
        self._aborted.set()

    def break_off(self) -> None:
        """The same for who goes on over another connection: bandwidth is waited for to the end."""
        self._broken_off = True
        with self._closing:
            # A connection that was given back may carry another body. Should that happen between
            # this look and the next line, the other one breaks off and is continued.
            if self._socket is not None and self._response.raw.connection is not None:
                with suppress(OSError):  # the registry hung up first
                    self._socket.shutdown(socket.SHUT_RDWR)

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
        """The raw bytes as they arrive and may, to the end of the body; the caller counts them.

        Raises BlobTruncated where the body breaks, RegistryUnavailable where it stalls, both after
        everything that was received.
        """
        wanted = min(_LEAST_BLOCK_BYTES, block_bytes)
        while not self._broken_off:
            try:
                # One read of the socket: what has arrived is never lost to an error behind it.
                block = self._response.raw.read1(wanted, decode_content=False)
            except urllib3.exceptions.ReadTimeoutError as error:
                raise RegistryUnavailable(f"{self._name} stalled: no byte came in time.") from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise BlobTruncated(f"The body of {self._name} broke off.") from error
            if block:
                if seconds := self._answer.permit.received(len(block)):
                    # Not cut short by who only breaks off: the fleet would take more than it may.
                    self._aborted.wait(seconds)
                # Room is taken for all that is wanted, and holes are left where less comes.
                if len(block) == wanted:
                    wanted = min(2 * wanted, block_bytes)
                elif len(block) < wanted // 2:
                    wanted = max(wanted // 2, min(_LEAST_BLOCK_BYTES, block_bytes))
                yield block
                # The next one takes its place in memory.
                del block
            elif not self._broken_off:
                return
        raise BlobTruncated(f"The body of {self._name} was aborted.")


def _socket_below(response: requests.Response, name: str) -> socket.socket:
    """The connection of a response under a descriptor of our own.

    So shutting it down never hits a number that was closed and given to a stranger, and happens
    below TLS: SSLSocket.shutdown() takes the cipher from under a read in another thread, which
    then would take ciphertext for bytes. urllib3's HTTPResponse.shutdown() calls just that.
    """
    try:
        return socket.socket(fileno=os.dup(response.raw.fileno()))
    except OSError as error:
        raise RegistryUnavailable(f"No descriptor is left to read {name}.") from error


def read_whole(response: requests.Response, limit_bytes: int, asked: str) -> bytes:
    """A small body. Raises TooLarge, and RegistryUnavailable where it breaks or is none."""
    refuse_encoding(response, asked)
    raw = bytearray()
    try:
        # To the very end: only the read behind the last byte tells a short body from a whole one.
        while block := response.raw.read1(BLOCK_BYTES, decode_content=False):
            raw += block
            if len(raw) > limit_bytes:
                raise TooLarge(f"{asked} is larger than {limit_bytes} bytes.")
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise RegistryUnavailable(f"{asked} broke off on its way.") from error
    if not raw:
        raise RegistryUnavailable(f"{asked} came without a body: is a proxy in the way?")
    return bytes(raw)


def is_proved(response: requests.Response, first: int, end: int, size: int) -> bool:
    """Whether a 206 is exactly the range that was asked for (RFC 9110 §15.3.7)."""
    answered = _content_range(response)
    if answered is None:
        return False
    return (answered.first, answered.last) == (first, end - 1) and answered.total in {None, size}


def is_of_another_size(response: requests.Response, size: int) -> bool:
    """Whether a 206 names another total than `size`."""
    answered = _content_range(response)
    return answered is not None and answered.total not in {None, size}


def _content_range(response: requests.Response) -> ContentRange | None:
    try:
        return ContentRange.parse(response.headers.get("Content-Range", ""))
    except ValueError:
        return None


def check_length(response: requests.Response, size: int, asked: str) -> None:
    """Raises SizeMismatch where Content-Length contradicts `size`. It need not be there."""
    length = response.headers.get("Content-Length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) != size:
        raise SizeMismatch(f"{asked} has {length[:20]} bytes instead of {size}.")


def refuse_encoding(response: requests.Response, asked: str, size: int | None = None) -> None:
    """Raises RegistryUnavailable: bytes that were encoded on the way are not the blob's.

    `size`: how many bytes the blob's own would be. As many as that are taken for them: some servers
    label a compressed layer as compressed on the way (moby#17595). The digest decides.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding in {"", "identity"}:
        return
    if size is not None and response.headers.get("Content-Length", "").strip() == str(size):
        return
    raise RegistryUnavailable(
        f"{asked} came with Content-Encoding {encoding[:20]}, which was not asked for: "
        "the registry, or a proxy before it, is misconfigured."
    )


def refuse_page(response: requests.Response, asked: str) -> None:
    """Raises RegistryUnavailable for a web page: a captive portal's, a proxy's. It may go away."""
    if response.headers.get("Content-Type", "").strip().lower().startswith("text/html"):
        raise RegistryUnavailable(f"{asked} came as a web page: is a proxy or a portal in the way?")

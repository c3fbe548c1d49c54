"""What may be asked of a registry. Source: distribution-spec v1.1, "Pull"."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType

import requests
import urllib3

from shared.errors import (
    BlobTruncated,
    DigestMismatch,
    InvalidDigest,
    RegistryNotAllowed,
    RegistryUnavailable,
    SizeMismatch,
    TooLarge,
    UnsupportedAlgorithm,
)
from shared.oci import media_type
from shared.oci.descriptor import Descriptor
from shared.oci.digest import Digest
from shared.oci.reference import Reference
from shared.registry.auth import Authenticator
from shared.registry.hosts import Hosts
from shared.registry.responses import ContentRange, error_of, unsatisfied_total
from shared.registry.transport import Transport, same_origin
from shared.settings import Settings

MANIFEST_LIMIT_BYTES = 4 * 1024 * 1024
_BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index as served: its Content-Type, its digest, its very bytes."""

    media_type: str | None
    digest: Digest
    raw: bytes


class BlobBody:
    """The body of a blob, from byte `first` on. Use it as a context manager."""

    def __init__(self, response: requests.Response, first: int, name: str) -> None:
        self.first = first
        self._response = response
        self._name = name

    def __enter__(self) -> "BlobBody":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A body that was read to its end has given its connection back already.
        self._response.close()

    def blocks(self, block_bytes: int = _BLOCK_BYTES) -> Iterator[bytes]:
        """The raw bytes as they arrive, to the end of the body; the caller counts them.

        Raises BlobTruncated where the body breaks, RegistryUnavailable where it stalls, both after
        everything that was received.
        """
        while True:
            try:
                # One read of the socket: what has arrived is never lost to an error behind it.
                block = self._response.raw.read1(block_bytes, decode_content=False)
            except urllib3.exceptions.ReadTimeoutError as error:
                raise RegistryUnavailable(f"{self._name} stalled: no byte came in time.") from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise BlobTruncated(f"The body of {self._name} broke off.") from error
            if not block:
                return
            yield block


class RegistryClient:
    """Every registry, for all threads of a process. Raises the errors of `shared.errors`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._hosts = Hosts(settings.registries_file)
        self._transport = Transport(
            settings.connect_timeout_seconds, settings.stall_timeout_seconds
        )
        self._auth = Authenticator(self._transport)

    def close(self) -> None:
        """Close every kept connection."""
        self._transport.close()

    def manifest(self, reference: Reference, digest: Digest | None = None) -> Document:
        """The manifest or index that `digest` names, else the reference's digest, else its tag.

        The bytes are verified; at most 4 MiB.
        """
        wanted = digest or reference.pinned
        asked = f"The manifest {wanted or reference.tag} of {reference.name}"
        path = f"manifests/{wanted or reference.tag}"
        with self._get(reference, path, {"Accept": media_type.ACCEPT}) as response:
            if response.status_code != 200:
                raise error_of(response, asked)
            raw = _read(response, MANIFEST_LIMIT_BYTES, asked)
            stated = response.headers.get("Docker-Content-Digest")
            content_type = response.headers.get("Content-Type")
        if wanted is None:
            _check_stated(stated, raw, asked)
            wanted = Digest.of(raw)
        _verify(raw, wanted, asked)
        return Document(content_type, wanted, raw)

    def blob(self, reference: Reference, descriptor: Descriptor, limit_bytes: int) -> bytes:
        """A small blob whole, verified."""
        asked = f"The blob {descriptor.digest} of {reference.name}"
        if descriptor.size > limit_bytes:
            raise TooLarge(f"{asked} has {descriptor.size} bytes; {limit_bytes} are the most.")
        if descriptor.data is not None:
            return descriptor.data
        raw = b""
        if descriptor.size:
            with self.open_blob(reference, descriptor.digest, descriptor.size) as body:
                blocks = []
                for block in body.blocks():
                    blocks.append(block)
                    if sum(map(len, blocks)) > descriptor.size:
                        raise SizeMismatch(f"{asked} has more than {descriptor.size} bytes.")
            raw = b"".join(blocks)
        if len(raw) < descriptor.size:
            raise BlobTruncated(f"{asked} ended after {len(raw)} of {descriptor.size} bytes.")
        _verify(raw, descriptor.digest, asked)
        return raw

    def open_blob(
        self, reference: Reference, digest: Digest, size: int, first: int = 0
    ) -> BlobBody:
        """The blob from byte `first` on, or from 0 where the registry cannot do ranges.

        `BlobBody.first` says which. Raises SizeMismatch before any byte of a body whose length
        contradicts `size`.
        """
        name = f"{digest} of {reference.name}"
        if first:
            ranged = self._open_range(reference, digest, size, first, name)
            if ranged is not None:
                return ranged
        # No Range on a fresh download: some registries answer 400 to one (containerd#11953).
        response = self._get(reference, f"blobs/{digest}", {})
        try:
            if response.status_code != 200:
                raise error_of(response, f"The blob {name}")
            _check_length(response, size, name)
        except BaseException:
            response.close()
            raise
        return BlobBody(response, 0, name)

    def _open_range(
        self, reference: Reference, digest: Digest, size: int, first: int, name: str
    ) -> BlobBody | None:
        """The body of a closed range; None where the answer is of no use and is not final."""
        headers = {"Range": f"bytes={first}-{size - 1}"}
        response = self._get(reference, f"blobs/{digest}", headers)
        try:
            if response.status_code == 206 and _is_proved(response, first, size):
                return BlobBody(response, first, name)
            if response.status_code == 200:
                _check_length(response, size, name)
                return BlobBody(response, 0, name)
            if response.status_code == 416:
                real = unsatisfied_total(response.headers.get("Content-Range", ""))
                if real is not None and real != size:
                    raise SizeMismatch(f"The blob {name} has {real} bytes instead of {size}.")
            elif response.status_code not in {206, 400}:
                raise error_of(response, f"The blob {name}")
        except BaseException:
            response.close()
            raise
        response.close()
        return None

    def _get(
        self, reference: Reference, path: str, headers: Mapping[str, str]
    ) -> requests.Response:
        """GET below the repository, authenticated as the registry asks."""
        if not self._settings.allows(reference.registry):
            raise RegistryNotAllowed(
                f"The registry {reference.registry} is not allowed here: ask the operator about "
                "TOWLINE_ALLOWED_REGISTRIES and TOWLINE_BLOCKED_REGISTRIES."
            )
        host = self._hosts.host(reference.registry)
        url = f"{host.base}/v2/{reference.repository}/{path}"
        known = self._auth.known(host, reference.repository)

        def send(authorization: str | None) -> requests.Response:
            credentials = {"Authorization": authorization} if authorization else {}
            return self._transport.send("GET", url, {**headers, **credentials}, host.verify)

        response = send(known)
        if not same_origin(url, response.url) and response.status_code in {400, 401, 403}:
            # A signed redirect that has expired: the registry gives a new one, once.
            response.close()
            return send(known)
        if response.status_code != 401:
            return response
        challenge = response.headers.get("WWW-Authenticate", "")
        obtained = self._auth.obtain(host, reference.repository, known, challenge)
        if obtained is None:
            return response
        response.close()
        return send(obtained)


def _read(response: requests.Response, limit_bytes: int, asked: str) -> bytes:
    _refuse_encoding(response, asked)
    try:
        raw: bytes = response.raw.read(limit_bytes + 1, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise RegistryUnavailable(f"{asked} broke off on its way.") from error
    if len(raw) > limit_bytes:
        raise TooLarge(f"{asked} is larger than {limit_bytes} bytes.")
    return raw


def _verify(raw: bytes, digest: Digest, asked: str) -> None:
    actual = Digest.of(raw, digest.algorithm)
    if actual != digest:
        raise DigestMismatch(f"{asked} has bytes that hash to {actual} instead of {digest}.")


def _check_stated(stated: str | None, raw: bytes, asked: str) -> None:
    """Where the registry states a digest of what it serves, the bytes must have it."""
    try:
        digest = Digest.parse(stated or "")
    except (InvalidDigest, UnsupportedAlgorithm):
        return
    _verify(raw, digest, asked)


def _is_proved(response: requests.Response, first: int, size: int) -> bool:
    """Whether a 206 is exactly the range that was asked for (RFC 9110 §15.3.7)."""
    try:
        answered = ContentRange.parse(response.headers.get("Content-Range", ""))
    except ValueError:
        return False
    _refuse_encoding(response, "A range of a blob")
    return (answered.first, answered.last) == (first, size - 1) and answered.total in {None, size}


def _check_length(response: requests.Response, size: int, name: str) -> None:
    _refuse_encoding(response, f"The blob {name}")
    length = response.headers.get("Content-Length", "")
    if length.isascii() and length.isdigit() and int(length) != size:
        raise SizeMismatch(f"The blob {name} has {length} bytes instead of {size}.")


def _refuse_encoding(response: requests.Response, asked: str) -> None:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise RegistryUnavailable(
            f"{asked} came with Content-Encoding {encoding[:20]}, which was not asked for: "
            "the registry, or a proxy before it, is misconfigured."
        )

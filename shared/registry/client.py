"""What may be asked of a registry. Source: distribution-spec v1.1, "Pull".

Every request goes one way (`_get`): allowed? → the host → what is known of the authentication → a
401 of the registry is answered once, a 403 to a kept login forgets it → a signed redirect that has
expired is asked for anew, once.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import requests

from shared.errors import (
    BlobTruncated,
    BlobUnknown,
    DigestMismatch,
    InvalidDigest,
    RegistryNotAllowed,
    SizeMismatch,
    TooLarge,
    UnsupportedAlgorithm,
)
from shared.oci import media_type
from shared.oci.descriptor import Descriptor
from shared.oci.digest import Digest
from shared.oci.reference import Reference
from shared.registry.auth import Authenticator
from shared.registry.bodies import BlobBody, check_length, is_proved, read_whole, refuse_encoding
from shared.registry.hosts import Host, Hosts
from shared.registry.responses import error_of, unsatisfied_total
from shared.registry.transport import Transport, discard
from shared.registry.urls import same_origin
from shared.settings import Settings

__all__ = ["MANIFEST_LIMIT_BYTES", "BlobBody", "Document", "RegistryClient"]

MANIFEST_LIMIT_BYTES = 4 * 1024 * 1024

# What object stores answer to a signature that has expired; some say 400.
_EXPIRED = {400, 401, 403}


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index as served: its Content-Type, its digest, its very bytes."""

    media_type: str | None
    digest: Digest
    raw: bytes


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

        The bytes are verified; at most 4 MiB. `media_type` comes without its parameters.
        """
        wanted = digest or reference.pinned
        asked = f"The manifest {wanted or reference.tag} of {reference.name}"
        path = f"manifests/{wanted or reference.tag}"
        with self._get(reference, path, {"Accept": media_type.ACCEPT}) as response:
            if response.status_code != 200:
                raise error_of(response, asked)
            raw = read_whole(response, MANIFEST_LIMIT_BYTES, asked)
            stated = response.headers.get("Docker-Content-Digest")
            content_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if wanted is None:
            _check_stated(stated, raw, asked)
            wanted = Digest.of(raw)
        _verify(raw, wanted, asked)
        return Document(content_type or None, wanted, raw)

    def blob(self, reference: Reference, descriptor: Descriptor, limit_bytes: int) -> bytes:
        """A small blob whole, verified. Nothing is asked for where the descriptor embeds it."""
        asked = f"The blob {descriptor.digest} of {reference.name}"
        if descriptor.size > limit_bytes:
            raise TooLarge(f"{asked} has {descriptor.size} bytes; {limit_bytes} are the most.")
        if descriptor.data is not None:
            return descriptor.data
        raw = bytearray()
        if descriptor.size:
            with self.open_blob(reference, descriptor.digest, descriptor.size) as body:
                for block in body.blocks():
                    raw += block
                    if len(raw) > descriptor.size:
                        raise SizeMismatch(f"{asked} has more than {descriptor.size} bytes.")
        if len(raw) < descriptor.size:
            raise BlobTruncated(f"{asked} ended after {len(raw)} of {descriptor.size} bytes.")
        _verify(bytes(raw), descriptor.digest, asked)
        return bytes(raw)

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
                raise error_of(response, f"The blob {name}", missing=BlobUnknown)
            return _whole(response, size, name)
        except BaseException:
            response.close()
            raise

    def _open_range(
        self, reference: Reference, digest: Digest, size: int, first: int, name: str
    ) -> BlobBody | None:
        """The body of a closed range; None where the answer is of no use and is not final."""
        headers = {"Range": f"bytes={first}-{size - 1}"}
        response = self._get(reference, f"blobs/{digest}", headers)
        try:
            if response.status_code == 206 and is_proved(response, first, size):
                refuse_encoding(response, f"The blob {name}")
                return BlobBody(response, first, name)
            if response.status_code == 200:
                return _whole(response, size, name)
            if response.status_code == 416:
                real = unsatisfied_total(response.headers.get("Content-Range", ""))
                if real is not None and real != size:
                    raise SizeMismatch(f"The blob {name} has {real} bytes instead of {size}.")
            elif response.status_code not in {206, 400}:
                raise error_of(response, f"The blob {name}", missing=BlobUnknown)
        except BaseException:
            response.close()
            raise
        discard(response)
        return None

    def _get(
        self, reference: Reference, path: str, headers: Mapping[str, str]
    ) -> requests.Response:
        """GET below the repository, authenticated as the registry asks."""
        host = self._host(reference.registry)
        url = f"{host.base}/v2/{reference.repository}/{path}"
        authorization = self._auth.known(host, reference.repository)
        answered = asked_anew = False
        while True:
            sent = {"Authorization": authorization} if authorization else {}
            response = self._transport.send("GET", url, {**headers, **sent}, host)
            if not same_origin(url, response.url):
                # Only the registry's own challenge is answered: a redirect's target gets no
                # credentials, and an expired signature is replaced by the registry, once.
                if asked_anew or response.status_code not in _EXPIRED:
                    return response
                asked_anew = True
            elif response.status_code == 401 and not answered:
                answered = True
                challenge = response.headers.get("WWW-Authenticate", "")
                try:
                    obtained = self._auth.obtain(
                        host, reference.repository, authorization, challenge
                    )
                except BaseException:
                    response.close()
                    raise
                if obtained is None:
                    return response
                authorization = obtained
            elif response.status_code == 403 and authorization and not answered:
                # Amazon's registry says so of a login that has expired, without a challenge
                # (flipt-io/flipt#3043): asked once more as a stranger, it sends one.
                self._auth.forget(host, reference.repository, authorization)
                authorization = None
            else:
                return response
            discard(response)

    def _host(self, registry: str) -> Host:
        if not self._settings.allows(registry):
            raise RegistryNotAllowed(
                f"The registry {registry} is not allowed here: ask the operator about "
                "TOWLINE_ALLOWED_REGISTRIES and TOWLINE_BLOCKED_REGISTRIES."
            )
        return self._hosts.host(registry)


def _whole(response: requests.Response, size: int, name: str) -> BlobBody:
    refuse_encoding(response, f"The blob {name}")
    check_length(response, size, f"The blob {name}")
    return BlobBody(response, 0, name)


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

"""The requests that towline makes to registries. Source: distribution-spec v1.1, "Pull".

Every call checks that the operator allows the registry, and lists its hosts, mirrors first
(`hosts.py`). They are tried in that order (`mirrors.py`, `blob_sources.py`). `host_requests.py`
sends a request.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from shared.errors import (
    BlobTruncated,
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
from shared.oci.reference import DOCKER_HUB, Reference
from shared.registry.auth.authenticator import Authenticator
from shared.registry.blob_sources import BlobSource, RangeSupport
from shared.registry.bodies import BlobBody, read_whole
from shared.registry.host_requests import RequestSender
from shared.registry.hosts import Host, Hosts, Need
from shared.registry.mirrors import try_hosts
from shared.registry.rate_limit_headers import RateLimit
from shared.registry.request_permit import AcquirePermit, unlimited
from shared.registry.responses import error_of, refuse_html
from shared.registry.transport.transport import Transport
from shared.settings import Settings

MANIFEST_LIMIT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest or index exactly as served. `media_type`: its Content-Type without parameters,
    None if there was none. `digest`: verified.
    """

    media_type: str | None
    digest: Digest
    raw: bytes


class RegistryClient:
    """The client for all registries, shared by the threads of a process.

    Every method raises only errors of `shared.errors`. `acquire_permit`: the rate limiter's.
    """

    def __init__(self, settings: Settings, acquire_permit: AcquirePermit = unlimited) -> None:
        self._settings = settings
        self._hosts = Hosts(settings.registries_file)
        self._transport = Transport(
            settings.connect_timeout_seconds, settings.stall_timeout_seconds
        )
        self._ranges = RangeSupport()
        # Hosts that count a GET of a manifest as a pull, but not a HEAD: Docker Hub, and those that
        # have sent rate limit headers with a manifest.
        self._counting = {DOCKER_HUB}
        self._sender = RequestSender(
            self._transport, Authenticator(self._transport), acquire_permit
        )

    def close(self) -> None:
        """Close all idle connections."""
        self._transport.close()

    def manifest(self, reference: Reference, digest: Digest | None = None) -> Document:
        """The manifest or index named by `digest`, else by the reference's digest, else by its tag.

        The bytes are verified. Raises TooLarge beyond 4 MiB.
        """
        wanted = digest or reference.pinned
        route = self._route(reference, "pull" if wanted else "resolve")
        return try_hosts(route, partial(self._manifest, reference=reference, wanted=wanted))

    def peek(self, reference: Reference) -> Digest | None:
        """The digest that the tag names now, by a HEAD request; None if the registry does not say.

        Also None, and without a request, where a HEAD saves nothing: for a digest reference, and
        for registries that do not count pulls. Use it when the manifest may be stored already.
        """
        host = self._route(reference, "resolve")[0]
        if reference.pinned or host.registry not in self._counting:
            return None
        path, headers = f"manifests/{reference.tag}", {"Accept": media_type.ACCEPT}
        with self._sender.send(host, reference.repository, path, headers, "HEAD") as response:
            stated = response.headers.get("Docker-Content-Digest")
            return _digest(stated) if response.status_code == 200 else None

    def _manifest(self, host: Host, reference: Reference, wanted: Digest | None) -> Document:
        what = f"The manifest {wanted or reference.tag} of {reference.name}"
        path = f"manifests/{wanted or reference.tag}"
        headers = {"Accept": media_type.ACCEPT}
        with self._sender.send(host, reference.repository, path, headers) as response:
            if response.status_code != 200:
                raise error_of(response, what)
            refuse_html(response, what)
            if RateLimit.of(response.headers):
                self._counting.add(host.registry)
            raw = read_whole(response, MANIFEST_LIMIT_BYTES, what)
            stated = response.headers.get("Docker-Content-Digest")
            content_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        if wanted is None:
            _check_stated(stated, raw, what)
            wanted = Digest.of(raw)
        _verify(raw, wanted, what)
        return Document(content_type or None, wanted, raw)

    def blob(self, reference: Reference, descriptor: Descriptor, limit_bytes: int) -> bytes:
        """The verified bytes of a small blob. Sends no request if the descriptor embeds them."""
        what = f"The blob {descriptor.digest} of {reference.name}"
        if descriptor.size > limit_bytes:
            raise TooLarge(
                f"{what} has {descriptor.size} bytes; at most {limit_bytes} are accepted."
            )
        if descriptor.data is not None:
            return descriptor.data
        raw = bytearray()
        if descriptor.size:
            digest, size, urls = descriptor.digest, descriptor.size, descriptor.urls
            with self.open_blob(reference, digest, size, urls=urls) as body:
                for block in body.blocks():
                    raw += block
                    if len(raw) > descriptor.size:
                        raise SizeMismatch(f"{what} has more than {descriptor.size} bytes.")
        if len(raw) < descriptor.size:
            raise BlobTruncated(f"{what} ended after {len(raw)} of {descriptor.size} bytes.")
        _verify(bytes(raw), descriptor.digest, what)
        return bytes(raw)

    def open_blob(
        self,
        reference: Reference,
        digest: Digest,
        size: int,
        first: int = 0,
        urls: Sequence[str] = (),
    ) -> BlobBody:
        """The blob from byte `first` on, from the first host that can serve it."""
        return self.source(reference, digest, size, urls).open(first)

    def source(
        self, reference: Reference, digest: Digest, size: int, urls: Sequence[str] = ()
    ) -> BlobSource:
        """The hosts that may serve this blob. Sends no request yet.

        `urls`: where the descriptor says the blob may be found (a foreign layer).
        """
        route = self._route(reference, "pull")
        # Opening a blob may take four requests, each with these time-outs: a 401, the token, the
        # blob, a redirect.
        patience_seconds = 4 * (
            self._settings.connect_timeout_seconds + self._settings.stall_timeout_seconds
        )
        return BlobSource(
            self._sender, self._ranges, route, reference, digest, size, urls, patience_seconds
        )

    def _route(self, reference: Reference, need: Need) -> list[Host]:
        if not self._settings.allows(reference.registry, reference.repository):
            raise RegistryNotAllowed(
                f"{reference.name} is not allowed in this fleet: ask its operator to change "
                "TOWLINE_ALLOWED_REGISTRIES or TOWLINE_BLOCKED_REGISTRIES."
            )
        return self._hosts.route(reference.registry, need)


def _verify(raw: bytes, digest: Digest, what: str) -> None:
    actual = Digest.of(raw, digest.algorithm)
    if actual != digest:
        raise DigestMismatch(f"{what} has bytes that hash to {actual} instead of {digest}.")


def _check_stated(stated: str | None, raw: bytes, what: str) -> None:
    """Raises DigestMismatch if the registry states a digest that the bytes do not match."""
    digest = _digest(stated)
    if digest is not None:
        _verify(raw, digest, what)


def _digest(stated: str | None) -> Digest | None:
    """The parsed digest, None if it is missing, malformed or of an unsupported algorithm."""
    try:
        return Digest.parse(stated or "")
    except (InvalidDigest, UnsupportedAlgorithm):
        return None

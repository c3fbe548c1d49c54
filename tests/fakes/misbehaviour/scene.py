"""A registry with a small image, a second host, and a metadata service.

registry    127.0.0.1, with `demo/app:1`: two layers, each a tar with one file
storage     127.0.0.2, a second host with the same blobs, which must not get credentials
metadata    169.254.169.254, a cloud's metadata service, which must not get requests. Only where
            this address can be used
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.answers import Request
from tests.fakes.certificates import Certificates
from tests.fakes.faults import Fault
from tests.fakes.images import tar_of
from tests.fakes.registry import Auth, FakeRegistry, digest_of
from tests.support.secrecy import secret

REPOSITORY = "demo/app"
LARGE_BYTES = 600_000
SMALL_BYTES = 30_000
HALF = 300_000
METADATA_HOST = "169.254.169.254"
USER = "ci"


@dataclass
class Scene:
    """The servers of one fault. `login`: the user and the secret that the client gets.

    `layers`: the blobs that must arrive. `inside`: the content of the file in each of them.
    `unasked`: hosts that must get no request. `strangers`: hosts that must get no credentials. Both
    hold for the metadata service.
    """

    registry: FakeRegistry
    storage: FakeRegistry
    inside: Mapping[bytes, bytes]
    metadata: FakeRegistry | None = None
    login: tuple[str, str] | None = None
    layers: list[bytes] = field(default_factory=list)
    unasked: list[FakeRegistry] = field(default_factory=list)
    strangers: list[FakeRegistry] = field(init=False)

    def __post_init__(self) -> None:
        self.strangers = [self.storage]

    @property
    def is_tls(self) -> bool:
        """Whether the registry uses TLS."""
        return self.registry.base.startswith("https:")

    @property
    def files(self) -> list[bytes]:
        """The content of the one file in each layer, empty for a layer without a file."""
        return [self.inside.get(layer, b"") for layer in self.layers]

    @property
    def reference(self) -> str:
        """The image to pull."""
        return f"{self.registry.host}/{REPOSITORY}:1"

    @property
    def large(self) -> str:
        """The digest of the large layer, which also matches the path of its requests."""
        return digest_of(self.layers[0])

    @property
    def small(self) -> str:
        """The digest of the small layer."""
        return digest_of(self.layers[-1])

    def is_config(self, request: Request) -> bool:
        """Whether this request is for the config."""
        return not any(digest in request.path for digest in (self.large, self.small))

    def fail(self, *faults: Fault) -> None:
        """Make the registry misbehave."""
        self.registry.fail(*faults)

    def bring(self, **changes: Any) -> str:
        """Store the image, with these changes to its manifest. Returns the manifest's digest."""
        digest = self.registry.put_image(REPOSITORY, "1", self.layers, **changes)
        self.storage.blobs.update(self.registry.blobs)
        return digest

    def rewrite(self, change: Callable[[dict[str, Any]], Any], **changes: Any) -> None:
        """Store the image with a changed manifest. `change` alters the document in place, or
        returns another one.
        """
        media_type, raw = self.registry.manifests[REPOSITORY, self.bring(**changes)]
        document = parse(raw)
        document = change(document) or document
        self.registry.put_manifest(REPOSITORY, "1", document, media_type)

    def log_in(self, user: str = USER, **options: Any) -> Auth:
        """Make the registry require a token; the client gets the login for it."""
        self.login = (user, secret("password"))
        self.registry.auth = Auth("bearer", users={user: self.login[1]}, **options)
        return self.registry.auth

    def fail_behind_login(self, *faults: Fault) -> None:
        """Make the registry require a token and misbehave."""
        self.log_in()
        self.fail(*faults)

    def layer_requests(self) -> list[Request]:
        """The successful requests for layers, to both hosts."""
        digests = {digest_of(layer, name) for layer in self.layers for name in ("sha256", "sha512")}
        asked = [*self.registry.asked("/blobs/"), *self.storage.asked("")]
        served = [request for request in asked if request.status in {200, 206}]
        return [request for request in served if any(digest in request.path for digest in digests)]

    @property
    def refetched_bytes(self) -> int:
        """How many bytes of layers were sent in addition to their size."""
        sent = sum(request.sent for request in self.layer_requests())
        return max(0, sent - sum(len(layer) for layer in set(self.layers)))

    def violations(self, *, strict: bool = True) -> list[str]:
        """Requests and credentials that reached a wrong host, in words. `strict`: includes
        requests to the hosts in `unasked`.
        """
        forbidden = [self.metadata] if self.metadata else []
        found = []
        if any(
            shows_secret(request)
            for host in (*self.strangers, *forbidden)
            for request in host.requests
        ):
            found.append("leaks credentials")
        if any(host.requests for host in forbidden):
            found.append("calls a metadata service")
        if strict and any(host.requests for host in self.unasked):
            found.append("calls a wrong host")
        return found


def shows_secret(request: Request) -> bool:
    """Whether a request carries credentials."""
    return "authorization" in request.headers or "cookie" in request.headers


def parse(raw: bytes) -> Any:
    """The document in these bytes."""
    return json.loads(raw)


@contextmanager
def staged(
    name: str,
    *,
    address: str = "127.0.0.1",
    port: int = 0,
    tls: Certificates | None = None,
    metadata: bool = False,
) -> Iterator[Scene]:
    """A scene without the image yet. The bytes of its layers depend only on `name`."""
    dice = random.Random(name)
    contents = [dice.randbytes(LARGE_BYTES), dice.randbytes(SMALL_BYTES)]
    elsewhere = "127.0.0.2" if address == "127.0.0.1" else address
    with ExitStack() as running:
        registry = running.enter_context(FakeRegistry(None, address, port, tls))
        storage = running.enter_context(FakeRegistry(None, elsewhere))
        witness = FakeRegistry(None, METADATA_HOST, 80) if metadata else None
        if witness:
            running.enter_context(witness)
        inside = {tar_of(f"file-{index}", raw): raw for index, raw in enumerate(contents)}
        yield Scene(registry, storage, inside, witness, layers=list(inside))

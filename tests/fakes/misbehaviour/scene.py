"""A registry with a small image, another host that it may redirect to, and who must not be asked.

registry    127.0.0.1, `demo/app:1`: two layers, each a tar with one file
storage     127.0.0.2, another host: it holds the same blobs and never gets credentials
metadata    169.254.169.254, where a cloud hands out keys: never asked. Only where it can be had
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
from tests.secrecy import secret

REPOSITORY = "demo/app"
LARGE_BYTES = 600_000
SMALL_BYTES = 30_000
HALF = 300_000
METADATA_HOST = "169.254.169.254"
USER = "ci"


@dataclass
class Scene:
    """Where one fault is played. `login`: user and secret that the client is to be given.

    `layers`: the blobs that have to arrive. `inside`: the file in each.
    `unasked`: hosts that no request may reach; `strangers`: those that no credentials may reach.
    The metadata service is both.
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
        """Whether the registry speaks TLS."""
        return self.registry.base.startswith("https:")

    @property
    def files(self) -> list[bytes]:
        """For each layer what stands in it: its one file, or nothing."""
        return [self.inside.get(layer, b"") for layer in self.layers]

    @property
    def reference(self) -> str:
        """What to pull."""
        return f"{self.registry.host}/{REPOSITORY}:1"

    @property
    def large(self) -> str:
        """The digest of the large layer; a pattern of its path, too."""
        return digest_of(self.layers[0])

    @property
    def small(self) -> str:
        """The digest of the small layer."""
        return digest_of(self.layers[-1])

    def is_config(self, request: Request) -> bool:
        """Whether this request is for the config."""
        return not any(digest in request.path for digest in (self.large, self.small))

    def fail(self, *faults: Fault) -> None:
        """The registry misbehaves."""
        self.registry.fail(*faults)

    def bring(self, **changes: Any) -> str:
        """Hold the image, with these changes to its manifest. Its digest."""
        digest = self.registry.put_image(REPOSITORY, "1", self.layers, **changes)
        self.storage.blobs.update(self.registry.blobs)
        return digest

    def rewrite(self, change: Callable[[dict[str, Any]], Any], **changes: Any) -> None:
        """Hold the image with a manifest that was changed, or replaced by what is returned."""
        media_type, raw = self.registry.manifests[REPOSITORY, self.bring(**changes)]
        document = parse(raw)
        document = change(document) or document
        self.registry.put_manifest(REPOSITORY, "1", document, media_type)

    def log_in(self, user: str = USER, **options: Any) -> Auth:
        """The registry wants a token, for which the client is given what it needs."""
        self.login = (user, secret("password"))
        self.registry.auth = Auth("bearer", users={user: self.login[1]}, **options)
        return self.registry.auth

    def fail_behind_login(self, *faults: Fault) -> None:
        """The registry wants a token, and misbehaves."""
        self.log_in()
        self.fail(*faults)

    def layer_requests(self) -> list[Request]:
        """Who got bytes of a layer, wherever."""
        digests = {digest_of(layer, name) for layer in self.layers for name in ("sha256", "sha512")}
        asked = [*self.registry.asked("/blobs/"), *self.storage.asked("")]
        got = [request for request in asked if request.status in {200, 206}]
        return [request for request in got if any(digest in request.path for digest in digests)]

    @property
    def refetched_bytes(self) -> int:
        """Bytes of layers that were sent beyond what there is."""
        sent = sum(request.sent for request in self.layer_requests())
        return max(0, sent - sum(len(layer) for layer in set(self.layers)))

    def violations(self, *, strict: bool = True) -> list[str]:
        """What was shown to, or asked of, somebody who must not be; `strict`: `unasked`, too."""
        forbidden = [self.metadata] if self.metadata else []
        found = []
        if any(
            shows_secret(request)
            for host in (*self.strangers, *forbidden)
            for request in host.requests
        ):
            found.append("credentials to a stranger")
        if any(host.requests for host in forbidden):
            found.append("asks for metadata")
        if strict and any(host.requests for host in self.unasked):
            found.append("asks a stranger")
        return found


def shows_secret(request: Request) -> bool:
    """Whether a request carries who we are."""
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
    """A scene whose bytes depend on the `name` alone, with the image not yet in place."""
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

"""A registry that speaks HTTP on a socket, logs its requests, and misbehaves on demand.

with FakeRegistry() as registry:
    registry.put_image("team/app", "1.0", [b"layer", b"layer"])
    registry.fail(Cut(after_bytes=1000, times=1))

`python -m tests.fakes.registry --help` describes how to run one with named faults.
"""

import json
import re
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.fakes import faults
from tests.fakes.answers import Request
from tests.fakes.certificates import Certificates
from tests.fakes.faults import Fault
from tests.fakes.registry_auth import Auth
from tests.fakes.registry_handler import Handler, Server, digest_of

__all__ = ["Auth", "FakeRegistry", "Request", "digest_of"]

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


class FakeRegistry:
    """A registry on a free port. A context manager.

    `requests`: every request so far, in the order of arrival.
    """

    def __init__(
        self,
        auth: Auth | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
        tls: Certificates | None = None,
    ) -> None:
        self.auth = auth
        self.requests: list[Request] = []
        # Called with each request after its response was sent.
        self.on_answer: Callable[[Request], None] = lambda _: None
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._faults: list[tuple[Fault, list[int]]] = []
        self._lock = threading.Lock()
        self._server = Server((address, port), Handler)
        self._server.registry = self
        self.host = f"{address}:{self._server.server_port}"
        self.base = f"http://{self.host}"
        if tls is not None:
            self.base = f"https://{self.host}"
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> "FakeRegistry":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for fault, _count in self._faults:
            if isinstance(fault, faults.Stall):
                fault.until.set()
        self._server.shutdown()
        self._server.server_close()

    def put_blob(self, raw: bytes, algorithm: str = "sha256") -> str:
        """Store a blob for every repository. Returns its digest."""
        digest = digest_of(raw, algorithm)
        self.blobs[digest] = raw
        return digest

    def put_manifest(self, repository: str, tag: str | None, document: Any, media_type: str) -> str:
        """Store a manifest or index, given as a document or as bytes. Returns its digest."""
        raw = document if isinstance(document, bytes) else json.dumps(document).encode()
        digest = digest_of(raw)
        for name in filter(None, (tag, digest)):
            self.manifests[repository, name] = (media_type, raw)
        return digest

    def put_image(
        self,
        repository: str,
        tag: str | None,
        layers: Sequence[bytes],
        *,
        platform: str = "linux/amd64",
        docker: bool = False,
        algorithm: str = "sha256",
        config: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> str:
        """Store an image of these uncompressed layers, whose digests are their diff_ids. Returns
        the manifest's digest.
        """
        digests = [self.put_blob(layer, algorithm) for layer in layers]
        os, architecture, *variant = platform.split("/")
        document = {
            "os": os,
            "architecture": architecture,
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer) for layer in layers]},
            "config": {"Env": ["A=b"], "Cmd": ["sh"]},
            **({"variant": variant[0]} if variant else {}),
            **(config or {}),
        }
        raw = json.dumps(document).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
            "config": {
                "mediaType": DOCKER_CONFIG if docker else OCI_CONFIG,
                "digest": self.put_blob(raw),
                "size": len(raw),
            },
            "layers": [
                {
                    "mediaType": DOCKER_LAYER if docker else OCI_LAYER,
                    "digest": digest,
                    "size": len(layer),
                }
                for digest, layer in zip(digests, layers, strict=True)
            ],
            **more,
        }
        return self.put_manifest(repository, tag, manifest, manifest["mediaType"])

    def put_index(
        self,
        repository: str,
        tag: str | None,
        manifests: Mapping[str, str] | Sequence[Mapping[str, Any]],
        *,
        docker: bool = False,
    ) -> str:
        """Store an index, given as digests by platform or as descriptors. Returns its digest."""
        if isinstance(manifests, Mapping):
            manifests = [
                self.descriptor(repository, digest, platform)
                for platform, digest in manifests.items()
            ]
        media_type = DOCKER_INDEX if docker else OCI_INDEX
        document = {"schemaVersion": 2, "mediaType": media_type, "manifests": list(manifests)}
        return self.put_manifest(repository, tag, document, media_type)

    def descriptor(
        self, repository: str, digest: str, platform: str | None, **more: Any
    ) -> dict[str, Any]:
        """The descriptor of a stored manifest, for an index."""
        media_type, raw = self.manifests[repository, digest]
        entry = {"mediaType": media_type, "digest": digest, "size": len(raw), **more}
        if platform:
            keys = ("os", "architecture", "variant")
            entry["platform"] = dict(zip(keys, platform.split("/"), strict=False))
        return entry

    def fail(self, *new_faults: Fault) -> None:
        """Have these faults from now on, in addition to earlier ones."""
        with self._lock:
            self._faults += [(fault, [0]) for fault in new_faults]

    def heal(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    def asked(self, path: str, method: str = "GET") -> list[Request]:
        """The requests whose path matches the regular expression."""
        return [
            request
            for request in list(self.requests)
            if request.method == method and re.search(path, request.path)
        ]

    def take_faults(self, request: Request) -> list[Fault]:
        """The faults for this request, which are counted as used.

        A fault that replaces the response ends the list: later ones stay for the next request.
        """
        due = []
        with self._lock:
            for fault, count in self._faults:
                if fault.matches(request) and (fault.times is None or count[0] < fault.times):
                    count[0] += 1
                    due.append(fault)
                    if fault.is_answer:
                        break
        return due


if __name__ == "__main__":
    from tests.fakes.serving import main

    main()

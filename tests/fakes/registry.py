"""A registry that speaks HTTP on a socket, keeps a log, and misbehaves when told to.

with FakeRegistry() as registry:
    registry.put_image("team/app", "1.0", [b"layer", b"layer"])
    registry.fail(Cut(after_bytes=1000, times=1))

`python -m tests.fakes.registry --help` runs one with a small image.
"""

import argparse
import json
import re
import secrets
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tests.fakes import faults
from tests.fakes.faults import Fault
from tests.fakes.registry_auth import Auth
from tests.fakes.registry_handler import Handler, Request, Server, digest_of

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
    """A registry on 127.0.0.1. Use it as a context manager."""

    def __init__(self, auth: Auth | None = None) -> None:
        self.auth = auth
        self.requests: list[Request] = []
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._faults: list[tuple[Fault, list[int]]] = []
        self._lock = threading.Lock()
        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.registry = self
        self.host = f"127.0.0.1:{self._server.server_port}"

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
        """Hold a blob, in every repository. Its digest."""
        digest = digest_of(raw, algorithm)
        self.blobs[digest] = raw
        return digest

    def put_manifest(self, repository: str, tag: str | None, document: Any, media_type: str) -> str:
        """Hold a manifest or index, a document or its very bytes. Its digest."""
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
        """Hold an image of these layers (uncompressed: a diff_id is a digest). Its digest."""
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
        """Hold an index: digests by platform, or whole descriptors. Its digest."""
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
        """What an index says of a manifest that is held here."""
        media_type, raw = self.manifests[repository, digest]
        described = {"mediaType": media_type, "digest": digest, "size": len(raw), **more}
        if platform:
            keys = ("os", "architecture", "variant")
            described["platform"] = dict(zip(keys, platform.split("/"), strict=False))
        return described

    def fail(self, *wanted: Fault) -> None:
        """Misbehave from now on."""
        with self._lock:
            self._faults += [(fault, [0]) for fault in wanted]

    def heal(self) -> None:
        """Behave again."""
        with self._lock:
            self._faults.clear()

    def asked(self, path: str, method: str = "GET") -> list[Request]:
        """The requests whose path matches."""
        return [
            request
            for request in list(self.requests)
            if request.method == method and re.search(path, request.path)
        ]

    def take_faults(self, path: str, *, ranged: bool) -> list[Fault]:
        """The faults that are due for this request."""
        taken = []
        about_ranges = (faults.IgnoreRange, faults.WrongRange, faults.RefuseRange)
        with self._lock:
            for fault, count in self._faults:
                if isinstance(fault, about_ranges) and not ranged:
                    continue
                if fault.matches(path) and (fault.times is None or count[0] < fault.times):
                    count[0] += 1
                    taken.append(fault)
                    if isinstance(fault, faults.Status | faults.Redirect):
                        # An answer of its own: later faults wait for the next request.
                        break
        return taken


def main() -> None:
    """Serve a small image until interrupted."""
    parser = argparse.ArgumentParser(description="A registry that misbehaves when told to.")
    parser.add_argument("--layers", type=int, default=3, help="how many layers the image has")
    parser.add_argument("--layer-bytes", type=int, default=1_000_000, help="the size of each")
    parser.add_argument("--cut-after", type=int, help="end each blob's body after so many bytes")
    parser.add_argument("--ignore-range", action="store_true", help="answer 200 to Range requests")
    parser.add_argument("--status", type=int, help="answer blobs with this status")
    options = parser.parse_args()
    with FakeRegistry() as registry:
        layers = [secrets.token_bytes(options.layer_bytes) for _ in range(options.layers)]
        registry.put_image("demo/app", "1", layers)
        if options.cut_after is not None:
            registry.fail(faults.Cut(after_bytes=options.cut_after))
        if options.ignore_range:
            registry.fail(faults.IgnoreRange())
        if options.status is not None:
            registry.fail(faults.Status(status=options.status))
        print(f"{registry.host}/demo/app:1", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()

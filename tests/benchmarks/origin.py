"""An origin that costs next to nothing: images of one layer, of any size, without a file on disk.

The layer `layer-<bytes>:1` is one random block of 64 MiB, over and over, from memory by sendfile:
a blob of 10 GB needs neither 10 GB of disk nor of memory, and nothing on its way can compress it.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_BLOCK_BYTES = 64 * 1024 * 1024
_VENDOR = "application/vnd.oci.image"
_RANGE = re.compile(r"bytes=(\d+)-(\d+)$")


@dataclass(frozen=True)
class Origin:
    """`digests`: of the layers, by their size in bytes."""

    host: str
    digests: dict[int, str]


@contextmanager
def origin(*sizes: int) -> Iterator[Origin]:
    """One that serves layers of these sizes, in a process of its own."""
    command = [sys.executable, "-m", __spec__.name, *map(str, sizes)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        host, digests = json.loads(process.stdout.readline())
        yield Origin(host, dict(zip(sizes, digests, strict=True)))
        process.kill()


class _Layers:
    """What is served: `documents` by path, with their media type; `sizes` of blobs by path."""

    def __init__(self) -> None:
        block = os.urandom(_BLOCK_BYTES)
        self._block = memoryview(block)
        self.file = os.memfd_create("block")
        assert os.write(self.file, block) == _BLOCK_BYTES
        self.documents: dict[str, tuple[str, bytes]] = {}
        self.sizes: dict[str, int] = {}

    def add(self, size: int) -> str:
        """An image. The layer's digest."""
        hasher = hashlib.sha256()
        for first in range(0, size, _BLOCK_BYTES):
            hasher.update(self._block[: size - first])
        digest, name = f"sha256:{hasher.hexdigest()}", f"/v2/layer-{size}"
        self.sizes[f"{name}/blobs/{digest}"] = size
        layer = {"mediaType": f"{_VENDOR}.layer.v1.tar", "digest": digest, "size": size}
        rootfs = {"type": "layers", "diff_ids": [digest]}
        config = self._put(
            f"{name}/blobs/",
            "config.v1+json",
            {"os": "linux", "architecture": "amd64", "rootfs": rootfs},
        )
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_VENDOR}.manifest.v1+json",
            "config": config,
            "layers": [layer],
        }
        named = self._put(f"{name}/manifests/", "manifest.v1+json", manifest)["digest"]
        self.documents[f"{name}/manifests/1"] = self.documents[f"{name}/manifests/{named}"]
        return digest

    def _put(self, path: str, kind: str, document: Any) -> dict[str, Any]:
        raw = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        self.documents[path + digest] = (f"{_VENDOR}.{kind}", raw)
        return {"mediaType": f"{_VENDOR}.{kind}", "digest": digest, "size": len(raw)}


def _handler(layers: _Layers) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            if self.path in layers.sizes:
                self._blob(layers.sizes[self.path])
                return
            known = self.path in layers.documents
            kind, raw = layers.documents.get(self.path, ("application/json", b"{}"))
            self._head(200 if known or self.path == "/v2/" else 404, len(raw), kind)
            self.wfile.write(raw if self.command == "GET" else b"")

        do_HEAD = do_GET  # noqa: N815 - named by the library

        def _blob(self, size: int) -> None:
            wanted = _RANGE.match(self.headers.get("Range", ""))
            first, end = 0, size
            if wanted:
                first, end = int(wanted[1]), int(wanted[2]) + 1
            content_range = f"bytes {first}-{end - 1}/{size}" if wanted else ""
            self._head(
                206 if wanted else 200, end - first, "application/octet-stream", content_range
            )
            while first < end and self.command == "GET":
                at = first % _BLOCK_BYTES
                count = min(end - first, _BLOCK_BYTES - at)
                first += os.sendfile(self.connection.fileno(), layers.file, at, count)

        def _head(self, status: int, length: int, kind: str, content_range: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
            if content_range:
                self.send_header("Content-Range", content_range)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    return Handler


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that hangs up in the middle of a body is what some of this is about."""


def serve() -> None:
    """Until standard input ends."""
    layers = _Layers()
    digests = [layers.add(int(size)) for size in sys.argv[1:]]
    server = _Server(("127.0.0.1", 0), _handler(layers))
    print(json.dumps([f"127.0.0.1:{server.server_port}", digests]), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    serve()

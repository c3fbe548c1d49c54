"""The process behind `origin.py`. It reads the images from a line of JSON. It answers each line
after that with the counts since the line before.
"""

import hashlib
import json
import os
import re
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_BLOCK_BYTES = 64 * 1024 * 1024
_VENDOR = "application/vnd.oci.image"
_RANGE = re.compile(r"bytes=(\d+)-(\d+)$")


class _Images:
    """What is served, by path: `documents` with their media type; `layers` as their offset in the
    block and their length.
    """

    def __init__(self) -> None:
        block = os.urandom(_BLOCK_BYTES)
        self._block = memoryview(block)
        self.file = os.memfd_create("block")
        assert os.write(self.file, block) == _BLOCK_BYTES
        self.documents: dict[str, tuple[str, bytes]] = {}
        self.layers: dict[str, tuple[int, int]] = {}
        self._digests: dict[tuple[int, int], str] = {}
        self._lock = threading.Lock()
        self._gets: Counter[str] = Counter()
        self._handed_out: Counter[str] = Counter()

    def add(self, repository: str, pieces: list[list[int]]) -> list[str]:
        """Add an image. Returns the digests of its layers."""
        name, digests = f"/v2/{repository}", []
        for first, size in pieces:
            digests.append(self._digest(first, size))
            self.layers[f"{name}/blobs/{digests[-1]}"] = (first, size)
        rootfs = {"type": "layers", "diff_ids": digests}
        config = {"os": "linux", "architecture": "amd64", "rootfs": rootfs}
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{_VENDOR}.manifest.v1+json",
            "config": self._put(f"{name}/blobs/", "config.v1+json", config),
            "layers": [
                {"mediaType": f"{_VENDOR}.layer.v1.tar", "digest": digest, "size": size}
                for digest, (_, size) in zip(digests, pieces, strict=True)
            ],
        }
        named = self._put(f"{name}/manifests/", "manifest.v1+json", manifest)["digest"]
        self.documents[f"{name}/manifests/1"] = self.documents[f"{name}/manifests/{named}"]
        return digests

    def count(self, path: str, gets: int = 0, handed_out: int = 0) -> None:
        """Count a request and the bytes of its response."""
        with self._lock:
            self._gets[path] += gets
            self._handed_out[path] += handed_out

    def counted(self) -> list[tuple[str, int, int, int, bool]]:
        """For everything that is served: path, size, GETs and bytes served since the last call, and
        whether it is a layer.
        """
        sizes = {path: len(raw) for path, (_, raw) in self.documents.items()}
        sizes |= {path: size for path, (_, size) in self.layers.items()}
        with self._lock:
            rows = [
                (path, size, self._gets[path], self._handed_out[path], path in self.layers)
                for path, size in sizes.items()
            ]
            self._gets.clear()
            self._handed_out.clear()
        return rows

    def _digest(self, first: int, size: int) -> str:
        if (first, size) not in self._digests:
            hasher, at = hashlib.sha256(), first
            while at < first + size:
                place = at % _BLOCK_BYTES
                portion = self._block[place : place + first + size - at]
                hasher.update(portion)
                at += len(portion)
            self._digests[first, size] = f"sha256:{hasher.hexdigest()}"
        return self._digests[first, size]

    def _put(self, path: str, kind: str, document: Any) -> dict[str, Any]:
        raw = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
        self.documents[path + digest] = (f"{_VENDOR}.{kind}", raw)
        return {"mediaType": f"{_VENDOR}.{kind}", "digest": digest, "size": len(raw)}


def _handler(images: _Images) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            if self.command == "GET":
                images.count(self.path, gets=1)
            if self.path in images.layers:
                self._layer(*images.layers[self.path])
                return
            known = self.path in images.documents
            kind, raw = images.documents.get(self.path, ("application/json", b"{}"))
            self._head(200 if known or self.path == "/v2/" else 404, len(raw), kind)
            if self.command == "GET":
                self.wfile.write(raw)
                images.count(self.path, handed_out=len(raw))

        do_HEAD = do_GET  # noqa: N815 - named by the library

        def _layer(self, begins: int, size: int) -> None:
            wanted = _RANGE.match(self.headers.get("Range", ""))
            first, end = 0, size
            if wanted:
                first, end = int(wanted[1]), int(wanted[2]) + 1
            content_range = f"bytes {first}-{end - 1}/{size}" if wanted else ""
            self._head(
                206 if wanted else 200, end - first, "application/octet-stream", content_range
            )
            while first < end and self.command == "GET":
                at = (begins + first) % _BLOCK_BYTES
                count = min(end - first, _BLOCK_BYTES - at)
                sent = os.sendfile(self.connection.fileno(), images.file, at, count)
                images.count(self.path, handed_out=sent)
                first += sent

        def _head(self, status: int, length: int, kind: str, content_range: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(length))
            if content_range:
                self.send_header("Content-Range", content_range)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Suppress the log."""

    return Handler


class _Server(ThreadingHTTPServer):
    # All clients may connect at once.
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Ignore clients that hang up in the middle of a body: some measurements do that on
        purpose.
        """


def serve() -> None:
    """Serve until standard input ends."""
    images = _Images()
    digests = []
    for repository, pieces in json.loads(sys.stdin.readline()).items():
        digests += images.add(repository, pieces)
    server = _Server(("127.0.0.1", 0), _handler(images))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps([f"127.0.0.1:{server.server_port}", digests]), flush=True)
    for _ in sys.stdin:
        print(json.dumps(images.counted()), flush=True)


if __name__ == "__main__":
    serve()

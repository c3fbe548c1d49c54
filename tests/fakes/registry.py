"""A registry that speaks HTTP on a socket, keeps a log, and misbehaves when told to.

with FakeRegistry() as registry:
    registry.put_image("team/app", "1.0", [b"layer", b"layer"])
    registry.fail(Cut(after_bytes=1000, times=1))

`python -m tests.fakes.registry --help` runs one with a small image.
"""

import argparse
import base64
import hashlib
import json
import re
import secrets
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes import faults
from tests.fakes.faults import Fault

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

_PIECE_BYTES = 64 * 1024


def digest_of(raw: bytes, algorithm: str = "sha256") -> str:
    """The digest of some bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"


@dataclass
class Request:
    """One request as it is answered. `sent`: bytes of the body handed to the socket so far."""

    method: str
    path: str
    headers: Mapping[str, str]
    status: int = 0
    sent: int = 0
    # The client's port: requests with the same one shared a connection.
    port: int = 0

    @property
    def range(self) -> str | None:
        """The Range header."""
        return self.headers.get("range")


@dataclass
class Auth:
    """How a registry wants to be asked: `basic`, or `bearer` with its own token service."""

    kind: str = "bearer"
    users: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = False
    life_seconds: int | None = 300
    token_key: str = "token"
    issued: dict[str, float] = field(default_factory=dict)
    # Accepted this often, then refused, however long its life: a registry that restarted.
    uses: int | None = None
    used: Counter[str] = field(default_factory=Counter)


class FakeRegistry:
    """A registry on 127.0.0.1. Use it as a context manager."""

    def __init__(self, auth: Auth | None = None) -> None:
        self.auth = auth
        self.requests: list[Request] = []
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._faults: list[tuple[Fault, list[int]]] = []
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
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


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    registry: FakeRegistry

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Gone(Exception):
    """The connection was cut on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A body in several small writes must not wait for acknowledgements.
    disable_nagle_algorithm = True

    @property
    def registry(self) -> FakeRegistry:
        server: Any = self.server
        return server.registry

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Tests read `requests` instead."""

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        port = self.client_address[1]
        self._request = Request(self.command, self.path, headers, port=port)
        # Before the answer: a client that has it may look here at once.
        self.registry.requests.append(self._request)
        try:
            self._route(urlsplit(self.path))
        except (_Gone, BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _route(self, url: Any) -> None:
        is_token = url.path == "/token"
        if not is_token and not self._is_allowed():
            self._challenge()
            return
        due = self.registry.take_faults(url.path, ranged="Range" in self.headers)
        for fault in due:
            if isinstance(fault, faults.Status):
                self._answer(fault.status, fault.body, fault.headers)
                return
            if isinstance(fault, faults.Redirect):
                location = f"{fault.scheme}://{fault.host}{url.path}?signature=s3cret"
                self._answer(307, b"", {"Location": location})
                return
        if is_token:
            self._token(url)
            return
        match = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", url.path)
        if match is None:
            self._answer(200 if url.path == "/v2/" else 404, b"{}", {})
        elif match[2] == "manifests":
            self._manifest(match[1], match[3], due)
        else:
            self._blob(match[3], due)

    def _manifest(self, repository: str, name: str, due: list[Fault]) -> None:
        held = self.registry.manifests.get((repository, name))
        if held is None:
            self._refuse(404, "MANIFEST_UNKNOWN", "manifest unknown")
            return
        media_type, raw = held
        headers = {"Content-Type": media_type, "Docker-Content-Digest": digest_of(raw)}
        self._body(200, raw, headers, due)

    def _blob(self, digest: str, due: list[Fault]) -> None:
        raw = self.registry.blobs.get(digest)
        if raw is None:
            self._refuse(404, "BLOB_UNKNOWN", "blob unknown to registry")
            return
        headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest}
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None or any(isinstance(fault, faults.IgnoreRange) for fault in due):
            self._body(200, raw, headers, due)
            return
        for fault in due:
            if isinstance(fault, faults.RefuseRange):
                total = {"Content-Range": f"bytes */{fault.total}"} if fault.total else {}
                self._answer(fault.status, b"", total)
                return
        first, last = int(asked[1]), min(int(asked[2]), len(raw) - 1)
        if first > last:
            self._answer(416, b"", {"Content-Range": f"bytes */{len(raw)}"})
            return
        total = len(raw)
        for fault in due:
            if isinstance(fault, faults.WrongRange):
                first, total = first + fault.shift, fault.total or total
        headers["Content-Range"] = f"bytes {first}-{last}/{total}"
        self._body(206, raw[first : last + 1], headers, due, first)

    def _body(
        self,
        status: int,
        raw: bytes,
        headers: dict[str, str],
        due: list[Fault],
        first: int = 0,
    ) -> None:
        length, chunked, stop, stall = len(raw), False, None, None
        reset = False
        for fault in due:
            if isinstance(fault, faults.Corrupt):
                changed = bytearray(raw)
                changed[fault.byte % len(raw)] ^= 0xFF
                raw = bytes(changed)
            elif isinstance(fault, faults.ExtraBytes):
                raw, chunked = raw + b"x" * fault.count, True
            elif isinstance(fault, faults.NoContentLength):
                chunked = True
            elif isinstance(fault, faults.Length):
                length = fault.length
            elif isinstance(fault, faults.Encoded):
                headers["Content-Encoding"] = fault.encoding
            elif isinstance(fault, faults.Cut):
                stop, reset = fault.after_bytes, fault.reset
            elif isinstance(fault, faults.CutAt):
                stop = max(0, fault.byte - first)
            elif isinstance(fault, faults.Stall):
                stop, stall = fault.after_bytes, fault
        framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(length)}
        self._start(status, {**headers, **framing})
        if self.command == "HEAD":
            return
        for piece in self._pieces(raw if stop is None else raw[:stop]):
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" if chunked else piece)
            self._request.sent += len(piece)
        if stall is not None:
            stall.until.wait()
            raise _Gone
        if stop is not None and stop < len(raw):
            self._hang_up(reset=reset)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _pieces(self, raw: bytes) -> Iterator[bytes]:
        for start in range(0, len(raw), _PIECE_BYTES):
            yield raw[start : start + _PIECE_BYTES]

    def _hang_up(self, *, reset: bool) -> None:
        self.wfile.flush()
        if reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()
        raise _Gone

    def _start(self, status: int, headers: Mapping[str, str]) -> None:
        self._request.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self._start(status, {"Content-Length": str(len(body)), **headers})
        if self.command != "HEAD":
            self.wfile.write(body)
            self._request.sent += len(body)

    def _refuse(self, status: int, code: str, message: str, **headers: str) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._answer(status, body, {"Content-Type": "application/json", **named})

    def _is_allowed(self) -> bool:
        auth = self.registry.auth
        if auth is None:
            return True
        sent = self.headers.get("Authorization", "")
        if auth.kind == "basic":
            return sent in {_basic(user, secret) for user, secret in auth.users.items()}
        token = sent.removeprefix("Bearer ")
        auth.used[token] += 1
        alive = auth.issued.get(token, 0.0) > time.monotonic()
        return alive and (auth.uses is None or auth.used[token] <= auth.uses)

    def _challenge(self) -> None:
        auth = self.registry.auth
        if auth is not None and auth.kind == "basic":
            header = 'Basic realm="fake"'
        else:
            repository = self.path.removeprefix("/v2/").rpartition("/")[0].rpartition("/")[0]
            header = (
                f'Bearer realm="http://{self.registry.host}/token",service="fake",'
                f'scope="repository:{repository}:pull"'
            )
        self._refuse(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=header)

    def _token(self, url: Any) -> None:
        auth = self.registry.auth
        sent = self.headers.get("Authorization")
        known = {_basic(user, secret) for user, secret in auth.users.items()} if auth else set()
        if self.command == "POST":
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            sent = form.get("refresh_token", [""])[0]
            known = set(auth.users.values()) if auth else set()
        if auth is None or not (sent in known or (sent is None and auth.anonymous)):
            self._refuse(401, "UNAUTHORIZED", "incorrect username or password")
            return
        token = secrets.token_hex(8)
        auth.issued[token] = time.monotonic() + (auth.life_seconds or 60)
        document: dict[str, Any] = {auth.token_key: token}
        if auth.life_seconds is not None:
            document["expires_in"] = auth.life_seconds
        self._answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})


def _basic(user: str, secret: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{secret}'.encode()).decode()}"


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

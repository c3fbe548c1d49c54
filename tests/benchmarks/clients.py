"""Other clients that pull images, each with the options that make it like towline: three tries
where it can, the same login, the same trust, one platform, bytes that can be looked at afterwards.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.misbehaviour.scene import Scene
from tests.scenes import login_file
from tests.waiting import wait_until


@dataclass(frozen=True)
class Errand:
    """One pull. `directory` is its own; `trust`: a directory with the authority as `ca.crt`."""

    scene: Scene
    directory: Path
    trust: Path

    @property
    def login(self) -> Path:
        """The Docker client's config.json."""
        file = self.directory / "config.json"
        file.write_text(json.dumps(login_file(self.scene)))
        return file


@dataclass(frozen=True)
class Ended:
    """How a client ended: its status, None where it had to be killed, and what it printed."""

    status: int | None
    said: str


@dataclass(frozen=True)
class Client:
    """`command`: the pull. `keeps`: the directory that it leaves bytes in."""

    name: str
    version: str
    command: Callable[[Errand], list[str]]
    keeps: Callable[[Errand], Path]

    def pull(self, errand: Errand, seconds: float) -> Ended:
        """Run it to its end, or for so long."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(errand.directory),
            "TMPDIR": str(errand.directory),
            "DOCKER_CONFIG": str(errand.login.parent),
        }
        with subprocess.Popen(
            self.command(errand),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process:
            try:
                said, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                said, _ = process.communicate()
                return Ended(None, said)
            return Ended(process.returncode, said)

    def has_all(self, errand: Errand) -> bool:
        """Whether every layer, or the file in it, is among the bytes that it left."""
        found = set()
        for path in self.keeps(errand).rglob("*"):
            # containerd may be tidying up.
            with suppress(FileNotFoundError, IsADirectoryError):
                found.add(_hash(path.read_bytes()))
        scene = errand.scene
        pairs = zip(scene.layers, scene.files, strict=True)
        return all(_hash(layer) in found or _hash(file) in found for layer, file in pairs)


def _hash(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()


@contextmanager
def clients(directory: Path) -> Iterator[list[Client]]:
    """Those that are installed, ready to be used as long as this is open."""
    found = []
    if shutil.which("skopeo"):
        found.append(Client("skopeo", _version("skopeo"), _skopeo, lambda one: one.directory / "o"))
    if shutil.which("podman"):
        found.append(Client("podman", _version("podman"), _podman, lambda one: one.directory / "p"))
    if shutil.which("crane"):
        found.append(Client("crane", _version("crane"), _crane, lambda one: one.directory / "o"))
    if not (shutil.which("ctr") and shutil.which("containerd")):
        yield found
        return
    with _containerd(directory) as socket:
        content = directory / "root" / "io.containerd.content.v1.content" / "blobs"
        ctr = Client("ctr", _version("ctr"), lambda one: _ctr(one, socket), lambda _: content)
        yield [*found, ctr]


def _version(tool: str) -> str:
    option = "version" if tool == "crane" else "--version"
    said = subprocess.run([tool, option], capture_output=True, text=True, check=True).stdout
    return said.split()[-1].partition("~")[0]


def _skopeo(errand: Errand) -> list[str]:
    trust = ["--src-cert-dir", str(errand.trust)]
    if not errand.scene.is_tls:
        trust = ["--src-tls-verify=false"]
    return [
        *("skopeo", "--insecure-policy", "--override-os", "linux", "--override-arch", "amd64"),
        *("copy", "--retry-times", "2", "--src-authfile", str(errand.login), *trust),
        *(f"docker://{errand.scene.reference}", f"dir:{errand.directory / 'o'}"),
    ]


def _podman(errand: Errand) -> list[str]:
    trust = ["--cert-dir", str(errand.trust)] if errand.scene.is_tls else ["--tls-verify=false"]
    directory = errand.directory
    return [
        *("podman", "--root", str(directory / "p"), "--runroot", str(directory / "r")),
        *("--storage-driver", "vfs", "--events-backend", "none", "--cgroup-manager", "cgroupfs"),
        *("pull", "--os", "linux", "--arch", "amd64", "--authfile", str(errand.login), *trust),
        errand.scene.reference,
    ]


def _crane(errand: Errand) -> list[str]:
    trust = [] if errand.scene.is_tls else ["--insecure"]
    target = str(errand.directory / "o")
    options = ["--format", "oci", "--platform", "linux/amd64", *trust]
    return ["crane", "pull", *options, errand.scene.reference, target]


def _ctr(errand: Errand, socket: Path) -> list[str]:
    trust = ["--tlscacert", str(errand.trust / "ca.crt")]
    if not errand.scene.is_tls:
        trust = ["--plain-http"]
    login = []
    if errand.scene.login:
        user, secret = errand.scene.login
        login = ["--refresh", secret] if user == "<token>" else ["--user", f"{user}:{secret}"]
    return [
        *("ctr", "--address", str(socket), "content", "fetch", "--platform", "linux/amd64"),
        *(*trust, *login, errand.scene.reference),
    ]


@contextmanager
def _containerd(directory: Path) -> Iterator[Path]:
    directory.mkdir()
    socket, config = directory / "socket", directory / "config.toml"
    config.write_text(
        'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'root = "{directory / "root"}"\nstate = "{directory / "state"}"\n'
        f'[grpc]\naddress = "{socket}"\n'
    )
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(["containerd", "--config", str(config)], stdout=log, stderr=log)
    try:
        wait_until(socket.exists)
        yield socket
    finally:
        process.terminate()
        process.wait()

"""Other clients that pull images, with options that make them comparable to towline: three tries if
possible, the same login, the same trust, one platform, and bytes that can be checked afterwards.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.misbehaviour.scene import Scene
from tests.support.misbehaving_scenes import login_file
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Errand:
    """One pull. `directory` is used by this pull alone; `trust`: a directory with the CA as
    `ca.crt`.
    """

    scene: Scene
    directory: Path
    trust: Path

    @property
    def login(self) -> Path:
        """Write the Docker client's config.json."""
        file = self.directory / "config.json"
        file.write_text(json.dumps(login_file(self.scene)))
        return file


_Command = Callable[[Errand], list[str]]
_Beside = Callable[[Errand], AbstractContextManager[object]]


@dataclass(frozen=True)
class Ended:
    """How a client ended: its exit status (None if it had to be killed), and its output."""

    status: int | None
    said: str


@dataclass(frozen=True)
class Client:
    """`command`: the command that pulls. `keeps`: where in the directory the client leaves the
    bytes. `beside`: a process that has to run during the pull.
    """

    name: str
    version: str
    command: _Command
    keeps: str
    beside: _Beside

    def pull(self, errand: Errand, seconds: float) -> Ended:
        """Run the client until it ends, or until the time limit."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(errand.directory),
            "TMPDIR": str(errand.directory),
            "DOCKER_CONFIG": str(errand.login.parent),
        }
        with (
            self.beside(errand),
            subprocess.Popen(
                self.command(errand),
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as process,
        ):
            try:
                said, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                said, _ = process.communicate()
                return Ended(None, said)
            return Ended(process.returncode, said)

    def has_all(self, errand: Errand) -> bool:
        """Whether every layer, or the file in it, is among the bytes that the client left."""
        found = set()
        for path in (errand.directory / self.keeps).rglob("*"):
            if path.is_file():
                found.add(_hash(path.read_bytes()))
        scene = errand.scene
        pairs = zip(scene.layers, scene.files, strict=True)
        return all(_hash(layer) in found or _hash(file) in found for layer, file in pairs)


def _hash(raw: bytes) -> bytes:
    return hashlib.sha256(raw).digest()


def installed() -> list[Client]:
    """The clients that are installed."""
    known: tuple[tuple[str, _Command, str, _Beside], ...] = (
        ("skopeo", _skopeo, "out", nullcontext),
        ("podman", _podman, "storage", nullcontext),
        ("crane", _crane, "out", nullcontext),
        # A new containerd for each pull: leftovers of one must not delay the next.
        ("ctr", _ctr, "root/io.containerd.content.v1.content/blobs", _containerd),
    )
    return [
        Client(name, _version(name), command, keeps, beside)
        for name, command, keeps, beside in known
        if shutil.which(name)
    ]


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
        *(f"docker://{errand.scene.reference}", f"dir:{errand.directory / 'out'}"),
    ]


def _podman(errand: Errand) -> list[str]:
    trust = ["--cert-dir", str(errand.trust)] if errand.scene.is_tls else ["--tls-verify=false"]
    directory = errand.directory
    return [
        *("podman", "--root", str(directory / "storage"), "--runroot", str(directory / "run")),
        *("--storage-driver", "vfs", "--events-backend", "none", "--cgroup-manager", "cgroupfs"),
        *("pull", "--os", "linux", "--arch", "amd64", "--authfile", str(errand.login), *trust),
        errand.scene.reference,
    ]


def _crane(errand: Errand) -> list[str]:
    trust = [] if errand.scene.is_tls else ["--insecure"]
    target = str(errand.directory / "out")
    options = ["--format", "oci", "--platform", "linux/amd64", *trust]
    return ["crane", "pull", *options, errand.scene.reference, target]


def _ctr(errand: Errand) -> list[str]:
    trust = ["--tlscacert", str(errand.trust / "ca.crt")]
    if not errand.scene.is_tls:
        trust = ["--plain-http"]
    login = []
    if errand.scene.login:
        user, secret = errand.scene.login
        login = ["--refresh", secret] if user == "<token>" else ["--user", f"{user}:{secret}"]
    return [
        *("ctr", "--address", str(errand.directory / "socket")),
        *("content", "fetch", "--platform", "linux/amd64"),
        *(*trust, *login, errand.scene.reference),
    ]


@contextmanager
def _containerd(errand: Errand) -> Iterator[None]:
    directory = errand.directory
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
        yield
    finally:
        process.terminate()
        process.wait()

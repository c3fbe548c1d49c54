"""Other programs that copy a large layer: seconds for one copy into a new target."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import requests

from tests.support.waiting import wait_until

_MIB = 1024 * 1024
_STEP_BYTES = 16 * _MIB
_WRITE = 2  # SYNC_FILE_RANGE_WRITE

Copy = Callable[[int], float]


def loop(url: str, directory: Path, *, durable: bool) -> Copy:
    """The simplest Python that verifies: read, hash, write. Durable: start writeback early, and
    fsync.
    """

    def copy(_: int) -> float:
        path = directory / "loop"
        began = time.monotonic()
        _loop(url, path, durable)
        took = time.monotonic() - began
        path.unlink()
        return took

    return copy


def _loop(url: str, path: Path, durable: bool) -> None:
    hasher, written = hashlib.sha256(), 0
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        with requests.get(url, stream=True, headers={"Accept-Encoding": "identity"}) as response:
            response.raise_for_status()
            while block := response.raw.read(_MIB):
                hasher.update(block)
                os.write(file, block)
                written += len(block)
                if durable and written % _STEP_BYTES == 0:
                    _start_writing(file, written - _STEP_BYTES)
        if durable:
            os.fsync(file)
    finally:
        os.close(file)
    assert url.endswith(hasher.hexdigest())


def _start_writing(file: int, first: int) -> None:
    offset, count = ctypes.c_int64(first), ctypes.c_int64(_STEP_BYTES)
    ctypes.CDLL(None).sync_file_range(file, offset, count, ctypes.c_uint(_WRITE))


def curl(url: str, directory: Path) -> Copy:
    """curl to a file: not verified, not durable."""
    return _command(["curl", "-fsS", "-o", f"{directory}/{{}}/file", url], directory)


def others(reference: str, directory: Path) -> dict[str, Copy]:
    """The registry clients that are installed."""
    found: dict[str, Copy] = {}
    for kind in ("oci", "dir") if shutil.which("skopeo") else ():
        # Without this option skopeo compresses uncompressed layers.
        as_it_is = ["--dest-oci-accept-uncompressed-layers"] if kind == "oci" else []
        skopeo = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", *as_it_is]
        target = f"{kind}:{directory}/{{}}/image" + (":1" if kind == "oci" else "")
        found[f"skopeo to {kind}"] = _command([*skopeo, f"docker://{reference}", target], directory)
    if shutil.which("ctr") and shutil.which("containerd"):
        found["ctr content fetch"] = _ctr(reference, directory)
    if shutil.which("crane"):
        crane = ["crane", "pull", "--insecure", "--format", "oci", reference]
        found["crane (not durable)"] = _command([*crane, f"{directory}/{{}}/image"], directory)
    return found


def _command(command: list[str], directory: Path) -> Copy:
    """A command; `{}` in it is the name of a new directory."""

    def copy(_: int) -> float:
        with tempfile.TemporaryDirectory(dir=directory) as target:
            return _timed([word.replace("{}", Path(target).name) for word in command])

    return copy


def _ctr(reference: str, directory: Path) -> Copy:
    def copy(_: int) -> float:
        with tempfile.TemporaryDirectory(dir=directory) as target:
            home, socket = Path(target), Path(target, "socket")
            config = home / "config.toml"
            config.write_text(
                'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                f'root = "{home}/root"\nstate = "{home}/state"\n[grpc]\naddress = "{socket}"\n'
            )
            with subprocess.Popen(
                ["containerd", "--config", str(config)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as containerd:
                try:
                    wait_until(socket.exists)
                    ctr = ["ctr", "--address", str(socket), "content", "fetch", "--plain-http"]
                    return _timed([*ctr, reference])
                finally:
                    containerd.terminate()

    return copy


def _timed(command: list[str]) -> float:
    began = time.monotonic()
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    took = time.monotonic() - began
    assert result.returncode == 0, result.stderr
    return took

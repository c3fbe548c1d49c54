"""(a) One large layer from a registry on loopback, by towline and by every other client installed.

    uv run python -m tests.benchmarks one_layer --rounds 5

An uncompressed layer from Debian's docker-registry, which has it in its page cache. Every target is
new. `transfer`: from lease to commit. `enqueue to linked`: a plain Celery client sends a pull to a
running fleet and waits for the receipt.
"""

import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.benchmarks.copies import curl, loop, others
from tests.benchmarks.fleets import Stores, new_fleet, pull, stores
from tests.benchmarks.plots import plot_rounds
from tests.benchmarks.tables import (
    Goal,
    Times,
    judge,
    medians,
    options_of,
    print_times,
    take_turns,
)
from tests.benchmarks.transfers import target
from tests.fakes.docker_registry import DockerRegistry

_MIB = 1024 * 1024
_VENDOR = "application/vnd.oci.image"
_DURABLE, _PLAIN = "Python loop, durable", "Python loop, not durable"
_TRANSFER, _FLEET = "towline, transfer", "towline, enqueue to linked"


def main() -> int:
    """Measure and print."""
    parser = options_of(__doc__)
    parser.add_argument("--size", type=int, default=512 * _MIB, help="bytes of the layer")
    options = parser.parse_args()
    size = options.size
    with (
        tempfile.TemporaryDirectory() as directory,
        stores() as under,
        target(Path(directory)) as volume,
        registry(Path(directory), size) as (host, digest),
    ):
        url, home = f"http://{host}/v2/big/blobs/{digest}", Path(directory)
        curl(url, home)(0)
        times = take_turns(
            options.rounds,
            {
                "curl to a file (not verified, not durable)": curl(url, home),
                _PLAIN: loop(url, home, durable=False),
                _DURABLE: loop(url, home, durable=True),
                _TRANSFER: lambda _: volume.transfer(f"{host}/big:1", digest, size),
                _FLEET: lambda _: _enqueue_to_linked(under, host),
                **others(f"{host}/big:1", home),
            },
        )
    skopeos = [name for name in times if name.startswith("skopeo")]
    print_times(times, [_DURABLE, *skopeos])
    plot_rounds(options.plots, "one_layer", f"One layer of {size // _MIB} MiB", "s", times)
    return judge(_goals(times, skopeos))


def _goals(times: Times, skopeos: list[str]) -> list[Goal]:
    middle = medians(times)
    goals = [Goal(f"{_TRANSFER} ÷ {_DURABLE}", middle[_TRANSFER] / middle[_DURABLE], 1.15)]
    for name in skopeos:
        goals.append(Goal(f"{_TRANSFER} ÷ {name}", middle[_TRANSFER] / middle[name], 0.5))
        goals.append(Goal(f"{_FLEET} ÷ {name}", middle[_FLEET] / middle[name], 0.6))
    return goals


def _enqueue_to_linked(under: Stores, host: str) -> float:
    with new_fleet(under) as fleet:
        fleet.start_worker()
        # A running fleet has open connections.
        pull(fleet, f"{host}/small:1")
        with fleet.client() as client:
            client.app.connection_for_write().ensure_connection()
            began = time.monotonic()
            client.pull(reference=f"{host}/big:1", platform="linux/amd64").get(timeout=600)
            return time.monotonic() - began


@contextmanager
def registry(directory: Path, size: int) -> Iterator[tuple[str, str]]:
    """A host with the images `big:1` and `small:1`, and the digest of the big layer."""
    with DockerRegistry(directory / "registry") as served:
        digests = []
        for name, count in (("small", 1000), ("big", size)):
            digests.append(write_layout(directory / name, os.urandom(count)))
            served.push(directory / name, "1", f"{name}:1")
        yield served.host, digests[-1]


def write_layout(
    directory: Path, raw: bytes, kind: str = "layer.v1.tar", diff_id: str | None = None
) -> str:
    """An image of one layer with the tag `1`, uncompressed unless its diff_id is given. Returns the
    layer's digest.
    """
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(raw: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(raw).hexdigest()
        (blobs / digest).write_bytes(raw)
        media_type = f"{_VENDOR}.{kind}"
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(raw)}

    layer = put(raw, kind)
    rootfs = {"type": "layers", "diff_ids": [diff_id or layer["digest"]]}
    config = {"os": "linux", "architecture": "amd64", "rootfs": rootfs, "config": {}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_VENDOR}.manifest.v1+json",
        "config": put(json.dumps(config).encode(), "config.v1+json"),
        "layers": [layer],
    }
    named = put(json.dumps(manifest).encode(), "manifest.v1+json")
    named["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [named]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return str(layer["digest"])


if __name__ == "__main__":
    sys.exit(main())

"""(k) The cost of verifying a diff_id: one compressed layer, with the setting off and on.

    uv run python -m tests.benchmarks diff_ids --rounds 5

A layer of files from the Python installation and /usr of this machine, served by Debian's
docker-registry on loopback. `off`: from lease to commit; `on`: until its diff_id is known as well.
`decompressing alone`: `gzip -dc` or `zstd -dc` of the same file into sha256sum, without a download.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from shared.oci.digest import Digest
from shared.volume.diff_ids.verifier import DiffIdVerifier
from tests.benchmarks.one_layer import write_layout
from tests.benchmarks.plots import plot_rounds
from tests.benchmarks.tables import Goal, judge, medians, options_of, print_times, take_turns
from tests.benchmarks.transfers import target
from tests.fakes.docker_registry import DockerRegistry

_COMPRESSIONS = {"gzip": ["gzip", "-6", "-c"], "zstd": ["zstd", "-3", "-q", "-c"]}


def main() -> int:
    """Measure and print."""
    parser = options_of(__doc__)
    parser.add_argument("--size", type=int, default=500_000_000, help="bytes, uncompressed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, target(Path(directory)) as volume:
        home = Path(directory)
        diff_id = _collect(home / "tar", options.size)
        contenders: dict[str, Callable[[int], float]] = {}
        with DockerRegistry(home / "registry") as registry:
            for name, command in _COMPRESSIONS.items():
                layer = _compress(home / "tar", home / name, command)
                kind = f"layer.v1.tar+{name}"
                layout = home / f"{name}-layout"
                digest = write_layout(layout, layer.read_bytes(), kind, diff_id)
                registry.push(layout, "1", f"{name}:1")
                size = layer.stat().st_size
                print(f"{name}: {size / 1e6:.0f} of {options.size / 1e6:.0f} MB", file=sys.stderr)
                asked = (f"{registry.host}/{name}:1", digest, size)

                def off(_: int, asked: tuple[str, str, int] = asked) -> float:
                    return volume.transfer(*asked)

                def on(_: int, asked: tuple[str, str, int] = asked) -> float:
                    _, digest, size = asked
                    unpacking = DiffIdVerifier(Digest.parse(digest), size, "sha256")
                    took = volume.transfer(*asked, unpacking=unpacking)
                    assert str(unpacking.diff_id) == diff_id
                    return took

                contenders[f"{name}, off"] = off
                contenders[f"{name}, on"] = on
                contenders[f"{name}, decompressing alone"] = _alone(layer, name)
            times = take_turns(options.rounds, contenders)
    print_times(times, [f"{name}, off" for name in _COMPRESSIONS])
    plot_rounds(options.plots, "diff_ids", "One layer, its diff_id verified or not", "s", times)
    middle = medians(times)
    return judge(
        [
            Goal(
                f"{name}, on ÷ off and then decompressing alone",
                middle[f"{name}, on"]
                / (middle[f"{name}, off"] + middle[f"{name}, decompressing alone"]),
                1,
            )
            for name in _COMPRESSIONS
        ]
    )


def _files() -> Iterator[Path]:
    for root in (sysconfig.get_path("platlib"), sysconfig.get_path("stdlib"), "/usr/lib", "/usr"):
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                    yield path


def _collect(tar: Path, size: int) -> str:
    """Write a tar of this many bytes of files. Returns its digest."""
    left = size
    with tar.open("wb") as file:
        for path in _files():
            left -= file.write(path.read_bytes()[:left])
            if left == 0:
                break
    assert left == 0, f"{left} bytes of files are missing: give a smaller --size"
    return str(Digest.of(tar.read_bytes()))


def _compress(tar: Path, to: Path, command: list[str]) -> Path:
    with tar.open("rb") as source, to.open("wb") as file:
        subprocess.run(command, stdin=source, stdout=file, check=True)
    return to


def _alone(layer: Path, name: str) -> Callable[[int], float]:
    line = f"set -o pipefail; {name} -dc < {shlex.quote(str(layer))} | sha256sum"

    def decompress(_: int) -> float:
        began = time.monotonic()
        subprocess.run(["bash", "-c", line], check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - began

    return decompress


if __name__ == "__main__":
    sys.exit(main())

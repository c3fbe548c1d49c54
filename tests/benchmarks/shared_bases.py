"""(f) Fifty images that share their bases, pulled at once: bytes served ÷ unique bytes.

    uv run python -m tests.benchmarks shared_bases --rounds 3

There are five bases of three or four layers, some larger than a chunk. Each image has one of them
and one to three more layers, in a separate repository. All are enqueued at once, on a new fleet of
three workers (four slots each; threads, then prefork) and a reconciler, with default settings, and
once with one connection per layer. Each connection is throttled, so that images meet on layers in
flight.

MB: bodies that the origin sent for GETs of blobs, layers and configs. Unique: every blob once. If a
connection is closed in the middle of a body, bytes in buffers count as sent; `on the wire` excludes
these, but includes the heads of responses and the manifests. Documents asked again: GETs of
manifests and configs beyond the first.

For comparison: what independent clients fetch, that is, the sum of all images' sizes, and, if it is
installed, skopeo copying each image to a separate directory.
"""

import itertools
import math
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.fleets import Stores, new_fleet, pull_all, start, stores
from tests.benchmarks.origin import Origin, Piece, Served, serving
from tests.benchmarks.plots import plot_rounds
from tests.benchmarks.proxy import proxy
from tests.benchmarks.tables import Goal, judge, options_of, print_table, take_turns

_WORKERS = 3
_POOLS = ("threads", "prefork")
_ONE = "the same, threads, one connection a layer"
_SKOPEO = "skopeo, one by one"
_BASES = 5
_BASE_BYTES = (200_000, 40_000_000)
_OWN_BYTES = (2_000, 5_000_000)
_MB = 1e6


@dataclass(frozen=True)
class _Account:
    """The counts of one round, in bytes, except `again`: GETs of documents beyond the first.

    `sent`: by the origin. `came`: through the proxy.
    """

    sent: int
    came: int
    unique: int
    again: int

    @property
    def ratio(self) -> float:
        return self.sent / self.unique


@dataclass(frozen=True)
class _Bench:
    under: Stores
    source: Origin
    names: Sequence[str]
    throttle: float
    accounts: dict[str, list[_Account]]

    def counted(self, name: str, copy: Callable[[str], None]) -> Callable[[int], float]:
        """The ratio of a contender, which gets the origin's host."""

        def run(_number: int) -> float:
            self.source.served()
            with proxy(self.source.host, self.throttle) as between:
                copy(between.host)
                came, _ = between.counted()
            account = _account(self.source.served(), came)
            self.accounts.setdefault(name, []).append(account)
            return account.ratio

        return run

    def towline(self, pool: str, **settings: str) -> Callable[[str], None]:
        """All images at once."""

        def copy(host: str) -> None:
            with new_fleet(self.under, **settings) as fleet:
                start(fleet, _WORKERS, pool)
                pull_all(fleet, [f"{host}/{name}:1" for name in self.names])

        return copy

    def skopeo(self, host: str) -> None:
        """One image after the other; each copy is kept until it is complete."""
        command = ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false", "--quiet"]
        for name in self.names:
            with tempfile.TemporaryDirectory() as directory:
                target = f"dir:{Path(directory, 'image')}"
                subprocess.run([*command, f"docker://{host}/{name}:1", target], check=True)


def main() -> int:
    """Measure and print."""
    parser = options_of(__doc__, rounds=3)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--throttle", type=float, default=20e6, help="bytes per second")
    options = parser.parse_args()
    images = _images(options.images)
    accounts: dict[str, list[_Account]] = {}
    with stores() as under, serving(images) as source:
        bench = _Bench(under, source, list(images), options.throttle, accounts)
        contenders = {f"{_WORKERS} workers, {pool}": bench.towline(pool) for pool in _POOLS}
        contenders[_ONE] = bench.towline("threads", TOWLINE_LAYER_CONNECTIONS="1")
        if shutil.which("skopeo"):
            contenders[_SKOPEO] = bench.skopeo
        ratios = take_turns(
            options.rounds, {name: bench.counted(name, copy) for name, copy in contenders.items()}
        )
    unique = accounts[next(iter(accounts))][0].unique
    everything = sum(size for pieces in images.values() for _, size in pieces)
    print(
        f"{len(images)} images of {everything / _MB:.1f} MB, {unique / _MB:.1f} MB of them unique"
    )
    print_table(
        ["", "MB", "÷ unique", "min", "max", "on the wire", "documents asked again"],
        [_row(name, taken) for name, taken in accounts.items()],
    )
    plot_rounds(options.plots, "shared_bases", "Shared bases", "bytes served ÷ unique", ratios)
    most = {name: max(ratios[name]) for name in ratios if name != _SKOPEO}
    return judge([Goal(f"{name}: most ÷ unique", ratio, 1) for name, ratio in most.items()])


def _images(count: int) -> dict[str, list[Piece]]:
    """Layers by repository; the same each time."""
    dice = random.Random(count)
    places = itertools.count(step=4096)

    def stack(layers: int, sizes: tuple[int, int]) -> list[Piece]:
        # Small as often as large: draw the logarithm of the size.
        least, most = map(math.log, sizes)
        return [(next(places), int(math.exp(dice.uniform(least, most)))) for _ in range(layers)]

    bases = [stack(dice.randint(3, 4), _BASE_BYTES) for _ in range(_BASES)]
    return {
        f"image-{number}": [*dice.choice(bases), *stack(dice.randint(1, 3), _OWN_BYTES)]
        for number in range(count)
    }


def _account(served: Sequence[Served], came: int) -> _Account:
    blobs = [file for file in served if file.is_blob]
    unique = {file.digest: file.size for file in blobs}
    again = sum(max(0, file.gets - 1) for file in served if not file.is_layer)
    sent = sum(file.handed_out for file in blobs)
    return _Account(sent, came, sum(unique.values()), again)


def _row(name: str, taken: Sequence[_Account]) -> list[str]:
    ratios = sorted(account.ratio for account in taken)
    figures = (statistics.median(ratios), ratios[0], ratios[-1])
    return [
        name,
        f"{statistics.median(account.sent for account in taken) / _MB:.1f}",
        *(f"{ratio:.4f}" for ratio in figures),
        f"{statistics.median(account.came / account.unique for account in taken):.4f}",
        f"{max(account.again for account in taken)}",
    ]


if __name__ == "__main__":
    sys.exit(main())

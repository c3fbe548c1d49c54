"""(b) A large layer from an origin that throttles each connection, over one connection and eight.

    uv run python -m tests.benchmarks throttled --rounds 5

MB/s from lease to commit, through a proxy that limits each connection. `link` is curl, which
discards the bytes, through the same proxy without a throttle.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.origin import origin
from tests.benchmarks.plots import plot_rounds
from tests.benchmarks.proxy import proxy
from tests.benchmarks.tables import Goal, judge, options_of, print_table, take_turns
from tests.benchmarks.transfers import target

_CONNECTIONS = 8
_ONE, _MANY = "towline, 1 connection", f"towline, {_CONNECTIONS} connections"
_FREE, _LINK = f"{_MANY}, no throttle", "link (curl, no throttle)"


def main() -> int:
    """Measure and print."""
    parser = options_of(__doc__)
    parser.add_argument("--size", type=int, default=2 * 1024**3, help="bytes of the layer")
    parser.add_argument("--throttle", type=float, default=40e6, help="bytes per second")
    options = parser.parse_args()
    size = options.size
    with (
        origin(size) as source,
        proxy(source.host, options.throttle) as slow,
        proxy(source.host) as fast,
        tempfile.TemporaryDirectory() as directory,
        target(Path(directory)) as volume,
    ):
        digest = source.digests[size]

        def towline(host: str, connections: int) -> float:
            return volume.transfer(f"{host}/layer-{size}:1", digest, size, connections)

        times = take_turns(
            options.rounds,
            {
                _LINK: lambda _: _curl(f"http://{fast.host}/v2/layer-{size}/blobs/{digest}"),
                _FREE: lambda _: towline(fast.host, _CONNECTIONS),
                _MANY: lambda _: towline(slow.host, _CONNECTIONS),
                _ONE: lambda _: towline(slow.host, 1),
            },
        )
    speeds = {name: [size / took / 1e6 for took in taken] for name, taken in times.items()}
    middle = {name: statistics.median(taken) for name, taken in speeds.items()}
    bound = min(middle[_LINK], _CONNECTIONS * options.throttle / 1e6)
    rows = [
        [
            name,
            *(f"{value:.0f}" for value in (middle[name], min(taken), max(taken))),
            f"{middle[name] / bound:.2f}",
            f"{middle[name] / middle[_ONE]:.2f}",
        ]
        for name, taken in speeds.items()
    ]
    limit = f"÷ min(link, {_CONNECTIONS} of {options.throttle / 1e6:g} MB/s)"
    print_table(["", "median MB/s", "min", "max", limit, "÷ one connection"], rows)
    plot_rounds(options.plots, "throttled", "A throttled origin", "MB/s", speeds)
    return judge(
        [
            Goal(f"{_MANY} {limit}", middle[_MANY] / bound, 0.9, at_least=True),
            Goal(f"{_MANY} ÷ one", middle[_MANY] / middle[_ONE], 6, at_least=True),
        ]
    )


def _curl(url: str) -> float:
    began = time.monotonic()
    subprocess.run(["curl", "--fail", "--silent", "--output", "/dev/null", url], check=True)
    return time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())

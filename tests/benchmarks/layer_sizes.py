"""(l) Layers of usual sizes from an origin that is far away and throttles each connection.

    uv run python -m tests.benchmarks layer_sizes --rounds 3

Seconds from lease to commit over one connection and over eight, with a round trip of 20 ms before
each request and for each handshake. `ideal` is eight connections at full speed from the fourth
round trip on: a handshake and a request for the first one, and the same for the others. `in vain`
is what the proxy served beyond the layer over eight connections, including the heads of responses.
"""

import statistics
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.origin import Origin, origin
from tests.benchmarks.plots import plot_growth
from tests.benchmarks.proxy import proxy
from tests.benchmarks.tables import Goal, Times, judge, options_of, print_table, take_turns
from tests.benchmarks.transfers import Target, target

_CONNECTIONS = 8
_ROUND_TRIPS = 4
_MIB = 1024 * 1024
_ONE, _MANY = "1 connection", f"{_CONNECTIONS} connections"
# Much of a smaller layer has arrived before the number of connections is settled.
_MIDDLE_BYTES = 64 * _MIB


def main() -> int:
    """Measure and print."""
    parser = options_of(__doc__, rounds=3)
    parser.add_argument("--sizes", default="4,16,32,64,128,256,512", help="in MiB")
    parser.add_argument("--throttles", default="20,40", help="MB/s of each connection")
    parser.add_argument("--latency", type=float, default=0.02, help="seconds of a round trip")
    options = parser.parse_args()
    sizes = [int(size) * _MIB for size in options.sizes.split(",")]
    throttles = [float(throttle) for throttle in options.throttles.split(",")]
    rows: list[list[str]] = []
    goals: list[Goal] = []
    lines: dict[str, dict[float, list[float]]] = {}
    with (
        origin(*sizes) as source,
        tempfile.TemporaryDirectory() as directory,
        target(Path(directory)) as volume,
    ):
        for throttle in throttles:
            name = f"{throttle:g} MB/s"
            lines[name] = {}
            for size in sizes:
                times, vain = _rounds(options, source, volume, throttle * 1e6, size)
                ideal = size / (_CONNECTIONS * throttle * 1e6) + _ROUND_TRIPS * options.latency
                rows.append([name, f"{size // _MIB}", *_columns(times, ideal, vain)])
                one, many = (statistics.median(taken) for taken in times.values())
                lines[name][size / _MIB] = [one / taken for taken in times[_MANY]]
                if size >= _MIDDLE_BYTES:
                    goals.append(Goal(f"{name}, {size // _MIB} MiB ÷ ideal", many / ideal, 1.75))
                    goals.append(Goal(f"{name}, {size // _MIB} MiB ÷ one", many / one, 0.5))
    head = ["a connection", "MiB", "1, s", "8, s", "min", "max", "÷ 1", "ideal, s", "÷ ideal"]
    print_table([*head, "in vain, MiB"], rows)
    units = ("MiB", "times as fast as one connection")
    plot_growth(options.plots, "layer_sizes", "Layers of usual sizes", units, lines)
    return judge(goals)


def _rounds(options, source: Origin, volume: Target, throttle: float, size: int):  # type: ignore[no-untyped-def]
    """Seconds of each contender, and how many bytes were wasted over many connections."""
    vain: list[float] = []

    def transfer(connections: int) -> float:
        with proxy(source.host, throttle, options.latency) as between:
            reference = f"{between.host}/layer-{size}:1"
            took = volume.transfer(reference, source.digests[size], size, connections)
            if connections > 1:
                vain.append(between.counted()[0] - size)
        return took

    contenders = {_ONE: lambda _: transfer(1), _MANY: lambda _: transfer(_CONNECTIONS)}
    return take_turns(options.rounds, contenders), vain


def _columns(times: Times, ideal: float, vain: list[float]) -> list[str]:
    one, many = times[_ONE], times[_MANY]
    middle = statistics.median(many)
    seconds = (statistics.median(one), middle, min(many), max(many))
    return [
        *(f"{value:.2f}" for value in seconds),
        f"{middle / statistics.median(one):.2f}",
        f"{ideal:.2f}",
        f"{middle / ideal:.2f}",
        f"{statistics.median(vain) / _MIB:.2f}",
    ]


if __name__ == "__main__":
    sys.exit(main())

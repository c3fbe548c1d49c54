"""(c) One layer from an origin with one slow front end in eight, compared with none.

    uv run python -m tests.benchmarks slow_front_end --rounds 8

Every connection gets 40 MB/s. With a slow front end, every eighth gets 2 MB/s; each round moves it:
the first connection, the second, and so on. Seconds from lease to commit.
"""

import sys
import tempfile
from pathlib import Path

from tests.benchmarks.origin import origin
from tests.benchmarks.plots import plot_rounds
from tests.benchmarks.proxy import proxy
from tests.benchmarks.tables import Goal, judge, medians, options_of, print_times, take_turns
from tests.benchmarks.transfers import target

_EVERY = 8
_NONE, _ONE = "no slow front end", "one slow in eight"


def main() -> int:
    """Measure and print."""
    parser = options_of(__doc__, rounds=_EVERY)
    parser.add_argument("--size", type=int, default=1024**3, help="bytes of the layer")
    parser.add_argument("--throttle", type=float, default=40e6, help="bytes per second")
    parser.add_argument("--slow", type=float, default=2e6, help="bytes per second")
    options = parser.parse_args()
    size = options.size
    with (
        origin(size) as source,
        tempfile.TemporaryDirectory() as directory,
        target(Path(directory)) as volume,
    ):

        def measure(number: int, every: int) -> float:
            with proxy(
                source.host,
                options.throttle,
                slow_every=every,
                slow_phase=number % _EVERY,
                slow_bytes_per_second=options.slow,
            ) as between:
                reference = f"{between.host}/layer-{size}:1"
                return volume.transfer(reference, source.digests[size], size)

        times = take_turns(
            options.rounds,
            {
                _NONE: lambda number: measure(number, 0),
                _ONE: lambda number: measure(number, _EVERY),
            },
        )
    print_times(times, [_NONE])
    plot_rounds(options.plots, "slow_front_end", "One slow front end in eight", "s", times)
    middle = medians(times)
    return judge(
        [
            Goal(f"{_ONE} ÷ {_NONE}", middle[_ONE] / middle[_NONE], 1.3),
            Goal(f"the same, worst round ÷ {_NONE}", max(times[_ONE]) / middle[_NONE], 1.3),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())

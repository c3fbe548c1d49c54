"""The cost of a dead mirror, for the first pull that meets it and for later ones on any node.

    uv run python -m tests.benchmarks.dead_mirror --trials 5

One node after the other pulls a new tag of a small image: without a mirror, with a mirror whose
port is closed, and with a mirror that drops every packet. The nodes share a Redis, so the second
node knows what the first found out. Each line shows medians in milliseconds, and the difference to
the pull without a mirror.
"""

import argparse
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis

from tests.fakes.registry import FakeRegistry
from tests.support.driver import driving
from tests.support.services import running_postgres, running_redis
from workers.embedded.servers import free_port

_LAYER_BYTES = 100_000
_FIRST_MS, _LATER_MS = 2000.0, 100.0


def main() -> int:
    """Pull in turns, and print. Exit status 1 if a dead mirror costs more than it may."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=5)
    trials = parser.parse_args().trials
    times: dict[str, list[float]] = {}
    with (
        running_postgres() as postgres,
        running_redis() as broker,
        tempfile.TemporaryDirectory() as directory,
        FakeRegistry() as registry,
        swallowing() as hole,
    ):
        mirrors = {"none": None, "refused": f"127.0.0.1:{free_port()}", "blackholed": hole}
        for trial in range(trials):
            for kind, mirror in mirrors.items():
                # A mirror that the fleet has no record of yet.
                with redis.Redis.from_url(broker.url) as client:
                    client.flushdb()
                for node in ("first", "later"):
                    tag = f"{trial}-{kind}-{node}"
                    registry.put_image("lab/app", tag, [os.urandom(_LAYER_BYTES)])
                    file = _registries_file(Path(directory), registry, mirror)
                    with driving(
                        postgres.url,
                        Path(directory, "volume"),
                        broker.url,
                        registries_file=file,
                        minimum_free_bytes=0,
                    ) as driver:
                        began = time.monotonic()
                        driver.pull(f"{registry.host}/lab/app:{tag}")
                        took = (time.monotonic() - began) * 1000
                    times.setdefault(f"{kind} {node}", []).append(took)
    return _print(times)


def _print(times: dict[str, list[float]]) -> int:
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    print(f"{'mirror':<12}{'pull':<8}{'ms':>8}{'vs none':>12}")
    wrong = False
    for name, median in medians.items():
        kind, node = name.split()
        above = median - medians[f"none {node}"]
        wrong |= above > (_FIRST_MS if node == "first" else _LATER_MS)
        print(f"{kind:<12}{node:<8}{median:>8.0f}{above:>12.0f}")
    return int(wrong)


def _registries_file(folder: Path, registry: FakeRegistry, mirror: str | None) -> Path:
    file = folder / "registries.toml"
    lines = [f'[registries."{registry.host}"]']
    if mirror:
        lines += [f'[[registries."{registry.host}".mirrors]]', f'url = "http://{mirror}"']
    file.write_text("\n".join(lines))
    return file


@contextmanager
def swallowing() -> Iterator[str]:
    """An address that never answers: its queue of pending connections is full."""
    with ExitStack() as open_sockets, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        for _ in range(8):
            waiting = open_sockets.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(address)
        yield f"127.0.0.1:{address[1]}"


if __name__ == "__main__":
    sys.exit(main())

"""An origin that costs next to nothing: images of any size, without a file on disk.

Every layer is a piece of one random block of 64 MiB, or that block over and over, from memory by
sendfile: a blob of 10 GB needs neither 10 GB of disk nor of memory, and nothing on its way can
compress it. A process of its own (`origin_server.py`), which counts what it hands out.

    with origin(1000) as source: ...                               # layer-1000:1
    with serving({"app": [(0, 1000), (1000, 50)]}) as source: ...  # app:1, of two layers
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.benchmarks import origin_server

# Where in the block a layer begins, and its size in bytes; the same piece is the same layer.
Piece = tuple[int, int]


@dataclass(frozen=True)
class Served:
    """A manifest, config or layer at one path; one that two repositories share has two.

    `gets`: how often it was asked for. `handed_out`: bytes of the answers, without their heads.
    """

    path: str
    size: int
    gets: int
    handed_out: int
    is_layer: bool

    @property
    def is_blob(self) -> bool:
        """A layer or a config."""
        return "/blobs/" in self.path

    @property
    def digest(self) -> str:
        """Or the tag, where a manifest is asked for by it."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Origin:
    """A running one. `digests`: of the layers that `origin()` was asked for, by size in bytes."""

    host: str
    digests: dict[int, str]
    _process: subprocess.Popen[str]

    def served(self) -> list[Served]:
        """All that there is, also what nobody has asked for, since the last time."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return [Served(*row) for row in json.loads(self._process.stdout.readline())]


@contextmanager
def origin(*sizes: int) -> Iterator[Origin]:
    """One that serves `layer-<bytes>:1`, an image of one layer, for each of these sizes."""
    with serving({f"layer-{size}": [(0, size)] for size in sizes}) as source:
        yield source


@contextmanager
def serving(images: Mapping[str, Sequence[Piece]]) -> Iterator[Origin]:
    """One that serves these images, by repository; the tag is `1`."""
    with subprocess.Popen(
        [sys.executable, "-m", origin_server.__name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{json.dumps(images)}\n")
        process.stdin.flush()
        host, digests = json.loads(process.stdout.readline())
        pieces = [piece for layers in images.values() for piece in layers]
        by_size = {size: digest for (_, size), digest in zip(pieces, digests, strict=True)}
        yield Origin(host, by_size, process)
        process.kill()

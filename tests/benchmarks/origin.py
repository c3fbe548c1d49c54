"""A registry that costs almost no processor time: images of any size, without a file on disk.

Every layer is a part of one random block of 64 MiB, or that block repeated, sent from memory by
sendfile. A blob of 10 GB needs neither 10 GB of disk nor of memory, and nothing on its way can
compress it. It is a separate process (`origin_server.py`), which counts what it serves.

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

# Where in the block a layer begins, and its size in bytes. The same part is the same layer.
Piece = tuple[int, int]


@dataclass(frozen=True)
class Served:
    """A manifest, config or layer at one path; one that two repositories share has two.

    `gets`: the number of GET requests. `handed_out`: bytes of the responses, without their heads.
    """

    path: str
    size: int
    gets: int
    handed_out: int
    is_layer: bool

    @property
    def is_blob(self) -> bool:
        """Whether it is a layer or a config."""
        return "/blobs/" in self.path

    @property
    def digest(self) -> str:
        """The digest, or the tag if a manifest is requested by tag."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Origin:
    """A running origin. `digests`: of the layers that `origin()` created, by size in bytes."""

    host: str
    digests: dict[int, str]
    _process: subprocess.Popen[str]

    def served(self) -> list[Served]:
        """Everything that is served, with the counts since the last call; also what was never
        requested.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return [Served(*row) for row in json.loads(self._process.stdout.readline())]


@contextmanager
def origin(*sizes: int) -> Iterator[Origin]:
    """An origin that serves `layer-<bytes>:1`, an image of one layer, for each of these sizes."""
    with serving({f"layer-{size}": [(0, size)] for size in sizes}) as source:
        yield source


@contextmanager
def serving(images: Mapping[str, Sequence[Piece]]) -> Iterator[Origin]:
    """An origin that serves these images, by repository; the tag is `1`."""
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

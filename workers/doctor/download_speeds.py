"""How fast the layers of a pull arrive, measured by watching them for some seconds."""

import time
from collections.abc import Sequence

from shared.catalog.database.catalog import Catalog
from shared.catalog.layers import pull_layers
from shared.catalog.layers.pull_layers import PullLayer
from shared.oci.digest import Digest
from shared.pulls.pull_ids import find_pull

_LOOK_SECONDS = 0.2
# Workers report their progress once a second. Wait for two reports of each layer, but no longer.
_LONGEST_SECONDS = 3.5

# time.monotonic(), and the bytes done at that time.
_Mark = tuple[float, int]


def measure(catalog: Catalog, pull_id: str) -> dict[Digest, float]:
    """Bytes per second of every layer of the pull that is being fetched.

    Takes up to 3.5 seconds; returns at once if no layer is being fetched. Raises InvalidArgument
    for an unknown id.
    """
    marks: dict[Digest, list[_Mark]] = {}
    ends = time.monotonic() + _LONGEST_SECONDS
    while (now := time.monotonic()) < ends:
        moving = _being_fetched(catalog, pull_id)
        for layer in moving:
            seen = marks.setdefault(layer.digest, [(now, layer.bytes_done)])
            if layer.bytes_done != seen[-1][1]:
                seen.append((now, layer.bytes_done))
        if all(len(marks[layer.digest]) > 2 for layer in moving):
            break
        time.sleep(_LOOK_SECONDS)
    return {digest: _speed(seen, time.monotonic()) for digest, seen in marks.items()}


def _being_fetched(catalog: Catalog, pull_id: str) -> Sequence[PullLayer]:
    with catalog.begin() as tx:
        pull = find_pull(tx, pull_id)
        if pull.has_ended:
            return []
        layers = pull_layers.of_pull(tx, pull_id, pull.registry or "")
    return [layer for layer in layers if layer.owner is not None and not layer.stored]


def _speed(marks: list[_Mark], now: float) -> float:
    """Bytes per second between the first and the last change.

    The first mark was read at any time between two reports: leave it out if there are two more.
    """
    if len(marks) > 2:
        marks = marks[1:]
    seconds = (marks[-1][0] if len(marks) > 1 else now) - marks[0][0]
    return max(marks[-1][1] - marks[0][1], 0) / seconds if seconds > 0 else 0.0

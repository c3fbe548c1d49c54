"""When a pull may be done, estimated only from what moves now.

Where nothing moves there is no estimate, and a sentence says why.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from shared.catalog.database.catalog import Catalog
from shared.catalog.reports import queue_position
from shared.oci.digest import Digest
from workers.doctor.facts import LINE_SECONDS, Facts

_LOOK_SECONDS = 0.2
# Workers report their progress once a second. Wait for two reports of each layer, but no longer.
_LONGEST_SECONDS = 3.5

# time.monotonic(), and the bytes done at that time.
_Mark = tuple[float, int]


@dataclass(frozen=True, slots=True)
class Estimate:
    """`seconds` from now, or None if there is no estimate; `sentence` says what it is based on."""

    seconds: float | None
    sentence: str


def measure(catalog: Catalog, pull_id: str) -> dict[Digest, float]:
    """Bytes per second of every layer of the pull that is being fetched, by watching them.

    Takes up to 3.5 seconds; returns at once if no layer is being fetched.
    """
    marks: dict[Digest, list[_Mark]] = {}
    ends = time.monotonic() + _LONGEST_SECONDS
    while time.monotonic() < ends:
        now = time.monotonic()
        with catalog.begin() as tx:
            holders = queue_position.holders(tx, pull_id)
        moving = {digest: holder for digest, holder in holders.items() if holder.alive}
        for digest, holder in moving.items():
            seen = marks.setdefault(digest, [(now, holder.bytes_done)])
            if holder.bytes_done != seen[-1][1]:
                seen.append((now, holder.bytes_done))
        if all(len(marks[digest]) > 2 for digest in moving):
            break
        time.sleep(_LOOK_SECONDS)
    return {digest: _speed(seen, time.monotonic()) for digest, seen in marks.items()}


def _speed(marks: list[_Mark], now: float) -> float:
    """Bytes per second between the first and the last change.

    The first mark was read at any time between two reports: leave it out if there are two more.
    """
    if len(marks) > 2:
        marks = marks[1:]
    seconds = (marks[-1][0] if len(marks) > 1 else now) - marks[0][0]
    return max(marks[-1][1] - marks[0][1], 0) / seconds if seconds > 0 else 0.0


def seconds_left(size_bytes: int, bytes_done: int, bytes_per_second: float | None) -> float | None:
    """Seconds until the layer is complete at this rate; None if the rate is unknown or 0."""
    if not bytes_per_second:
        return None
    return max(size_bytes - bytes_done, 0) / bytes_per_second


def estimate(facts: Facts, earliest: datetime | None) -> Estimate:
    """When the pull may be done. `earliest`: the end of the longest wait that has an end."""
    if facts.pull.state == "queued" and facts.place is not None:
        return _of_waiting_pulls(facts.place.before, facts.ended_recently)
    if facts.pull.state != "fetching":
        return _not_before(facts, earliest, "it is not known yet how much there is to fetch")
    left = _left(facts)
    if not left:
        return Estimate(None, "every layer is stored, and linking takes a moment")
    known = [seconds for seconds in left.values() if seconds is not None]
    if len(known) < len(left):
        waiting = len(left) - len(known)
        layers = "1 layer is" if waiting == 1 else f"{waiting} layers are"
        return _not_before(facts, earliest, f"{layers} not being fetched now")
    return Estimate(max(known), "until its layers are fetched, at the present speed")


def _left(facts: Facts) -> Mapping[Digest, float | None]:
    return {
        layer.digest: seconds_left(
            layer.size_bytes, layer.bytes_done, facts.speeds.get(layer.digest)
        )
        for layer in facts.layers
        if not layer.stored
    }


def _of_waiting_pulls(before: int, ended_recently: int) -> Estimate:
    minutes = LINE_SECONDS // 60
    if not ended_recently:
        return Estimate(None, f"no pull has ended in the last {minutes} minutes")
    ended = "1 pull" if ended_recently == 1 else f"{ended_recently:,} pulls"
    return Estimate(
        before * LINE_SECONDS / ended_recently,
        f"until it is admitted, since {ended} ended in the last {minutes} minutes",
    )


def _not_before(facts: Facts, earliest: datetime | None, why: str) -> Estimate:
    if earliest is None or earliest <= facts.now:
        return Estimate(None, why)
    seconds = (earliest - facts.now).total_seconds()
    return Estimate(None, f"not before {seconds:.0f} s from now; {why}")

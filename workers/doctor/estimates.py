"""When a pull may be done, estimated only from what moves now.

Where nothing moves there is no estimate, and a sentence says why.
"""

from dataclasses import dataclass
from datetime import datetime

from shared.catalog.layers.pull_layers import PullLayer
from workers.doctor.check_result import counted
from workers.doctor.pull_snapshot import ENDED_WITHIN_SECONDS, PullSnapshot


@dataclass(frozen=True, slots=True)
class Estimate:
    """When a pull may be done: in `seconds` from now, None if there is no estimate.

    `sentence`: what the estimate is based on, or why there is none.
    """

    seconds: float | None
    sentence: str


def seconds_left(layer: PullLayer, bytes_per_second: float | None) -> float | None:
    """Seconds until the layer is complete at this speed; None if the speed is unknown or 0."""
    if not bytes_per_second:
        return None
    return max(layer.size_bytes - layer.bytes_done, 0) / bytes_per_second


def estimate(snapshot: PullSnapshot, earliest: datetime | None) -> Estimate:
    """When the pull may be done. `earliest`: the end of the longest wait that has an end."""
    if snapshot.place is not None and earliest is None:
        return _of_waiting_pulls(snapshot.place.before, snapshot.ended_recently)
    if snapshot.pull.state != "fetching":
        return _not_before(snapshot, earliest, "it is not known yet how much there is to fetch")
    left = [
        seconds_left(layer, snapshot.speeds.get(layer.digest))
        for layer in snapshot.layers
        if not layer.stored
    ]
    if not left:
        return Estimate(None, "every layer is stored, and linking takes a moment")
    known = [seconds for seconds in left if seconds is not None]
    if len(known) < len(left):
        waiting = len(left) - len(known)
        do = "does" if waiting == 1 else "do"
        why = f"{counted(waiting, 'layer')} {do} not move now"
        return _not_before(snapshot, earliest, why)
    return Estimate(max(known), "until its layers are fetched, at the present speed")


def _of_waiting_pulls(before: int, ended_recently: int) -> Estimate:
    minutes = ENDED_WITHIN_SECONDS // 60
    if not ended_recently:
        return Estimate(None, f"no pull has ended in the last {minutes} minutes")
    return Estimate(
        before * ENDED_WITHIN_SECONDS / ended_recently,
        f"until it is admitted, since {counted(ended_recently, 'pull')} ended in the last "
        f"{minutes} minutes",
    )


def _not_before(snapshot: PullSnapshot, earliest: datetime | None, why: str) -> Estimate:
    if earliest is None or earliest <= snapshot.now:
        return Estimate(None, why)
    seconds = (earliest - snapshot.now).total_seconds()
    return Estimate(None, f"not before {seconds:.0f} s from now; {why}")

"""Why a pull does not move, until when, and what would unblock it.

The reason is the one in the pull's row or in its layer's row (`waiting_for`), which the reconciler
keeps true. This module adds what the row does not hold: the pull's place in the queue, who holds
the leases, and the remedy. A cause of None means that the pull or layer moves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.pull_values import Pull
from shared.catalog.reports.queue_position import QueuePosition
from workers.contract import LAYERS, PULLS
from workers.doctor.check_result import are, counted
from workers.doctor.estimates import Estimate, estimate, seconds_left
from workers.doctor.pull_snapshot import PullSnapshot

# For these causes `until` is the time of the next check at the latest, which says nothing about
# when the wait ends.
OPEN_ENDED = frozenset({"turn", "no_worker", "pull", "paused"})


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a pull or a layer waits; `cause` is None if it does not.

    `remedy` says what would unblock it.
    """

    cause: str | None
    sentence: str
    until: datetime | None = None
    remedy: str | None = None
    # The pull that it waits for.
    pull_id: str | None = None


@dataclass(frozen=True, slots=True)
class LayerExplanation:
    """A layer that is not stored: what it waits for, or how fast it is being fetched."""

    layer: PullLayer
    reason: Reason
    bytes_per_second: float | None
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a pull is in its state. `since`: when its state began; None if that was not recorded."""

    snapshot: PullSnapshot
    since: datetime | None
    reason: Reason
    layers: Sequence[LayerExplanation]
    remedies: Sequence[str]
    estimate: Estimate | None


def explain(snapshot: PullSnapshot) -> Explanation:
    """Explain why a pull is in its state."""
    pull = snapshot.pull
    if pull.has_ended:
        reason = _of_ended(pull)
        remedies = [reason.remedy] if reason.remedy else []
        return Explanation(snapshot, pull.finished_at, reason, (), remedies, None)
    layers = [_of_layer(snapshot, layer) for layer in snapshot.layers if not layer.stored]
    reason = _of_pull(snapshot, layers)
    reasons = [reason, *(layer.reason for layer in layers)]
    remedies = [reason.remedy for reason in reasons if reason.remedy]
    if snapshot.reconciler is None:
        remedies.append(f"no reconciler is running: {_start(snapshot, 'reconciler')}")
    ends = [reason.until for reason in reasons if reason.until and reason.cause not in OPEN_ENDED]
    return Explanation(
        snapshot,
        _since(pull),
        reason,
        layers,
        list(dict.fromkeys(remedies)),
        estimate(snapshot, max(ends, default=None)),
    )


def _since(pull: Pull) -> datetime | None:
    if pull.state == "queued":
        return pull.admitted_at or pull.created_at
    return {"resolving": pull.started_at, "fetching": pull.resolved_at}.get(pull.state)


def _of_ended(pull: Pull) -> Reason:
    if pull.state == "complete":
        return Reason(None, "it is complete")
    sentence = pull.error_message or "no error message was recorded"
    if pull.state == "failed":
        sentence = f"{sentence.removesuffix('.')} ({counted(pull.attempts, 'attempt')})"
    return Reason(None, sentence, remedy=f"once the cause is gone, run `towline retry {pull.id}`")


def _of_pull(snapshot: PullSnapshot, layers: Sequence[LayerExplanation]) -> Reason:
    pull = snapshot.pull
    moving = sum(layer.reason.cause is None for layer in layers)
    if moving:
        return Reason(None, f"{counted(moving, 'layer')} {are(moving)} being fetched")
    if snapshot.step_owner is not None:
        begins = pull.state in {"queued", "resolving"}
        step = "resolving the reference" if begins else "linking the image"
        return Reason(None, f"{snapshot.step_owner} is {step}")
    if pull.waiting_for is None and layers:
        return layers[0].reason
    if pull.waiting_for is None:
        return Reason(None, "it is between two steps, and continues within seconds")
    reason = _recorded(snapshot, pull.waiting_for)
    # If a layer waits for the same pull, its reason says more.
    same = [layer.reason for layer in layers if layer.reason.pull_id == reason.pull_id is not None]
    return same[0] if same else reason


def _of_layer(snapshot: PullSnapshot, layer: PullLayer) -> LayerExplanation:
    speed = snapshot.speeds.get(layer.digest) if layer.owner else None
    left = seconds_left(layer, speed)
    if layer.owner is not None and layer.leader in {snapshot.pull.id, None}:
        return LayerExplanation(layer, Reason(None, f"being fetched by {layer.owner}"), speed, left)
    return LayerExplanation(layer, _why_layer_waits(snapshot, layer), speed, left)


def _why_layer_waits(snapshot: PullSnapshot, layer: PullLayer) -> Reason:
    if layer.leader is not None:
        return _of_other_pull(snapshot, layer.leader, f"is fetching it, on {layer.owner}")
    waiting = layer.waiting_for
    if waiting and _until(waiting) > snapshot.now:
        return _recorded(snapshot, waiting, failures=layer.failures)
    if snapshot.pull.waiting_for:
        return _recorded(snapshot, snapshot.pull.waiting_for)
    return Reason("turn", "its message is in the queue", remedy=_REMEDIES["turn"])


def _until(waiting: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(str(waiting["until"]))


def _recorded(snapshot: PullSnapshot, waiting: Mapping[str, Any], *, failures: int = 0) -> Reason:
    """The reason that the row of a pull or layer states."""
    cause, sentence = str(waiting["cause"]), str(waiting["detail"]).removesuffix(".")
    if cause == "pull":
        return _of_other_pull(snapshot, sentence, "has the message for the same layer")
    if cause == "turn" and snapshot.place is not None:
        sentence = _place(snapshot.place)
    if cause == "paused" and snapshot.pause is not None:
        since = f"{snapshot.pause.paused_at.astimezone():%Y-%m-%d %H:%M:%S}"
        sentence = f"{snapshot.pause.subject} has been paused since {since}"
    if failures:
        sentence += f" ({counted(failures, 'try', 'tries')} without progress)"
    return Reason(cause, sentence, _until(waiting), _remedy(snapshot, cause))


def _place(place: QueuePosition) -> str:
    if place.before == 0:
        return "it is admitted next, as soon as the fleet has room"
    before = counted(place.before, "pull goes", "pulls go")
    waiting = counted(place.waiting, "pull waits", "pulls wait")
    return (
        f"{before} before it, by priority, then by each requester's share, then by age; {waiting} "
        "in total"
    )


def _of_other_pull(snapshot: PullSnapshot, pull_id: str, what: str) -> Reason:
    other = snapshot.others.get(pull_id)
    of = f" of {other.reference} (priority {other.priority})" if other else ""
    return Reason(
        "pull",
        f"the pull {pull_id}{of} {what}; if that pull ends, this one continues with its bytes",
        remedy=f"the end of that pull: `towline explain {pull_id}` says what it waits for",
        pull_id=pull_id,
    )


_REMEDIES = {
    "turn": "add workers, or pull with a higher priority: `towline pull --priority 9 …`",
    "rate_limit": "log in with an account that has a higher limit, or wait",
    "space": "free space on the volume, or enlarge it",
    "backoff": "nothing: it is tried again by itself, TOWLINE_ATTEMPTS times without progress",
    "paused": "nothing: the pause has ended, and it continues within a minute",
}


def _remedy(snapshot: PullSnapshot, cause: str) -> str | None:
    if cause == "paused" and snapshot.pause is not None:
        return f"run `{snapshot.pause.command}`"
    if cause == "no_worker":
        return _start(snapshot, "worker")
    return _REMEDIES.get(cause)


def _start(snapshot: PullSnapshot, process: str) -> str:
    """How to start a worker or a reconciler. The embedded stack starts its own, again and again."""
    if snapshot.stack_logs is not None:
        log = snapshot.stack_logs / f"{process}.log"
        return f"the stack starts its {process} by itself, see {log} if that takes long"
    if process == "reconciler":
        return "start `towline reconcile`"
    queue = LAYERS if any(not layer.stored for layer in snapshot.layers) else PULLS
    return f"start a worker: `celery -A workers.app worker -Q {queue}`"

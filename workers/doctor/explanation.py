"""Why a pull does not move, until when, and what would unblock it: one sentence each.

Pure functions of the facts of one moment. The causes are those of `pulls.waiting_for`; a cause of
None means that the pull or layer moves.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from shared.catalog.admission.pauses import Pause
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.reports.queue_position import LeaseHolder
from workers.contract import LAYERS, PULLS
from workers.doctor.estimates import Estimate, estimate, seconds_left
from workers.doctor.facts import Facts

_START_WORKER = "celery -A workers.app worker -Q {}"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a pull or a layer does not move; `cause` is None if it does.

    `takes` says what would unblock it, and is None if it only has to wait.
    """

    cause: str | None
    sentence: str
    until: datetime | None = None
    takes: str | None = None
    # The pull that it waits for.
    pull_id: str | None = None


@dataclass(frozen=True, slots=True)
class LayerExplanation:
    """A layer that is not stored: what it waits for, or how fast it is being fetched."""

    layer: PullLayer
    reason: Reason
    owner: str | None = None
    bytes_per_second: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a pull is in its state. `since`: when its state began; None if that was not recorded."""

    facts: Facts
    since: datetime | None
    reason: Reason
    layers: Sequence[LayerExplanation]
    takes: Sequence[str]
    estimate: Estimate | None


def explain(facts: Facts) -> Explanation:
    """Turn the facts about a pull into sentences."""
    pull = facts.pull
    if pull.has_ended:
        return Explanation(facts, pull.finished_at, _end(facts), (), _takes_after_end(facts), None)
    layers = [_layer_story(facts, layer) for layer in facts.layers if not layer.stored]
    reason = _of_layers(facts, layers) if pull.state == "fetching" else _of_pull(facts)
    reasons = [reason, *(layer.reason for layer in layers)]
    untils = [part.until for part in reasons if part.until]
    takes = [part.takes for part in reasons if part.takes]
    if facts.leader is None or not facts.leader.alive:
        takes.append(
            "no reconciler is running, so nothing that is lost is sent again: "
            f"{_start_of_reconciler(facts)}"
        )
    return Explanation(
        facts,
        _since(facts),
        reason,
        layers,
        list(dict.fromkeys(takes)),
        estimate(facts, max(untils, default=None)),
    )


def how_to_resume(pause: Pause) -> str:
    """The command that ends a pause."""
    option = "" if pause.scope == "fleet" else f" --{pause.scope} {shlex.quote(pause.name)}"
    return f"towline resume{option}"


def _since(facts: Facts) -> datetime | None:
    pull = facts.pull
    if pull.state == "queued":
        return pull.admitted_at or pull.created_at
    return {"resolving": pull.started_at, "fetching": pull.resolved_at}.get(pull.state)


def _end(facts: Facts) -> Reason:
    pull = facts.pull
    if pull.state == "complete":
        return Reason(None, "it is complete")
    tries = "1 attempt" if pull.attempts == 1 else f"{pull.attempts} attempts"
    message = pull.error_message or "no error message was recorded"
    return Reason(
        None, message if pull.state == "cancelled" else f"{message.removesuffix('.')} ({tries})"
    )


def _takes_after_end(facts: Facts) -> list[str]:
    if facts.pull.state == "complete":
        return []
    return [f"once the cause is gone, run `towline retry {facts.pull.id}`"]


def _of_pull(facts: Facts) -> Reason:
    """For a pull without open layers: it waits for its turn, is being resolved or being linked."""
    pull = facts.pull
    if facts.step is not None and facts.step.alive:
        step = "linking the image" if pull.state == "linking" else "resolving the reference"
        return Reason(None, f"{facts.step.owner} is {step}")
    if facts.pause is not None:
        return _paused(facts.pause)
    if pull.state == "queued" and pull.admitted_at is None:
        return _not_admitted(facts)
    if pull.not_before is not None and pull.not_before > facts.now and pull.waiting_for:
        waiting = pull.waiting_for
        return _recorded(facts, str(waiting["cause"]), str(waiting["detail"]), pull.not_before)
    if facts.fleet.pull_slots == 0:
        return _no_worker(facts, PULLS)
    has_message = facts.messages is None or pull.id in (
        facts.messages.coordinators | facts.messages.links
    )
    return _turn_of_message(facts, PULLS, has_message, facts.fleet.pull_slots)


def _not_admitted(facts: Facts) -> Reason:
    place = facts.place
    if place is None or place.before == 0:
        return Reason("turn", "it is admitted next, as soon as the fleet has room")
    pulls = "1 pull goes" if place.before == 1 else f"{place.before:,} pulls go"
    wait = "1 pull waits" if place.waiting == 1 else f"{place.waiting:,} pulls wait"
    return Reason(
        "turn",
        f"{pulls} before it, by priority, then by each requester's share, then by age; {wait} "
        "in total",
        takes="add workers, or pull with a higher priority: `towline pull --priority 9 …`",
    )


def _of_layers(facts: Facts, layers: Sequence[LayerExplanation]) -> Reason:
    """Why the pull as a whole waits: that layers are being fetched, if any is, else what its layers
    wait for.
    """
    if not layers:
        return _of_pull(facts)
    moving = [layer for layer in layers if layer.reason.cause is None]
    if moving:
        count = "1 layer is" if len(moving) == 1 else f"{len(moving)} layers are"
        return Reason(None, f"{count} being fetched")
    if facts.pause is not None:
        return _paused(facts.pause)
    causes = {str(layer.reason.cause) for layer in layers}
    if len(causes) == 1:
        return layers[0].reason
    return Reason(str(layers[0].reason.cause), f"its layers wait for: {', '.join(sorted(causes))}")


def _layer_story(facts: Facts, layer: PullLayer) -> LayerExplanation:
    holder = facts.holders.get(layer.digest)
    if holder is None or not holder.alive:
        return LayerExplanation(layer, _waiting(facts, layer, holder))
    speed = facts.speeds.get(layer.digest)
    left = seconds_left(layer.size_bytes, holder.bytes_done, speed)
    return LayerExplanation(layer, _held(facts, holder), holder.owner, speed, left)


def _held(facts: Facts, holder: LeaseHolder) -> Reason:
    if holder.pull_id in {facts.pull.id, None}:
        return Reason(None, f"being fetched by {holder.owner}")
    leader = facts.leaders.get(str(holder.pull_id))
    named = f"the pull {holder.pull_id}"
    if leader is not None:
        named += f" of {leader.reference} (priority {leader.priority})"
    return Reason(
        "pull",
        f"{named} is fetching it, on {holder.owner}; if that pull ends, this one continues with "
        "the same bytes",
        pull_id=holder.pull_id,
    )


def _waiting(facts: Facts, layer: PullLayer, holder: LeaseHolder | None) -> Reason:
    """For a layer without a live lease: why no worker is fetching it."""
    if facts.pause is not None:
        return _paused(facts.pause)
    if layer.not_before is not None and layer.not_before > facts.now and layer.waiting_for:
        waiting = layer.waiting_for
        detail = str(waiting["detail"])
        if layer.failures:
            tries = "1 try" if layer.failures == 1 else f"{layer.failures} tries"
            detail = f"{detail.removesuffix('.')} ({tries} without progress)"
        return _recorded(facts, str(waiting["cause"]), detail, layer.not_before)
    if facts.fleet.layer_slots == 0:
        return _no_worker(facts, LAYERS)
    if holder is not None and holder.owner is not None:
        return Reason(
            "turn",
            f"the lease of {holder.owner} expired {-holder.seconds:.0f} s ago; another worker "
            "continues with its bytes",
            takes=_reconciler_takes(facts),
        )
    leader = _followed(facts, layer)
    if leader is not None:
        return Reason(
            "pull",
            f"the pull {leader} has the message for it; if that pull ends, this one continues",
            pull_id=leader,
        )
    key = (facts.pull.id, str(layer.digest))
    has_message = facts.messages is None or key in facts.messages.layers
    return _turn_of_message(facts, LAYERS, has_message, facts.fleet.layer_slots)


def _followed(facts: Facts, layer: PullLayer) -> str | None:
    """The pull whose message this layer depends on.

    None if this pull has a message itself, or if the message of the other pull is lost.
    """
    if layer.waiting_for is None or layer.waiting_for["cause"] != "pull":
        return None
    recorded = str(layer.waiting_for["detail"])
    if facts.messages is None:
        return recorded
    digest = str(layer.digest)
    senders = sorted(pull_id for pull_id, sent in facts.messages.layers if sent == digest)
    if facts.pull.id in senders:
        return None
    return recorded if recorded in senders else next(iter(senders), None)


def _recorded(facts: Facts, cause: str, detail: str, until: datetime) -> Reason:
    """The reason that is recorded in the row of the pull or layer."""
    takes = {
        "space": "free space on the volume, or enlarge it",
        "rate_limit": "log in with an account that has a higher limit, or wait",
    }.get(cause)
    if cause == "space" and facts.free_bytes is not None:
        detail = f"{detail} (it has {facts.free_bytes:,} bytes free now)"
    return Reason(cause, detail, until, takes)


def _paused(pause: Pause) -> Reason:
    paused = "the fleet" if pause.scope == "fleet" else f"the {pause.scope} {pause.name}"
    since = f"{pause.paused_at.astimezone():%Y-%m-%d %H:%M:%S}"
    return Reason(
        "paused",
        f"{paused} has been paused since {since}",
        takes=f"run `{how_to_resume(pause)}`",
    )


def _no_worker(facts: Facts, queue: str) -> Reason:
    if facts.stack_logs is not None:
        return Reason(
            "no_worker",
            f"the worker of the embedded stack does not consume {queue} yet",
            takes=f"a moment: {_starts_itself('worker', facts.stack_logs)}",
        )
    return Reason(
        "no_worker",
        f"no worker consumes {queue}",
        takes=f"start a worker: `{_START_WORKER.format(queue)}`",
    )


def _turn_of_message(facts: Facts, queue: str, has_message: bool, slots: int | None) -> Reason:
    if has_message:
        serving = "" if slots is None else f", which {slots} worker slots serve"
        if slots == 1:
            serving = ", which 1 worker slot serves"
        waits = "its message waits" if facts.messages is not None else "its message should wait"
        return Reason("turn", f"{waits} in {queue}{serving}")
    return Reason(
        "turn",
        "its message is lost; the reconciler sends it again within seconds",
        takes=_reconciler_takes(facts),
    )


def _reconciler_takes(facts: Facts) -> str | None:
    if facts.leader is not None and facts.leader.alive:
        return None
    return f"{_start_of_reconciler(facts)}: no reconciler is running"


def _start_of_reconciler(facts: Facts) -> str:
    if facts.stack_logs is not None:
        return _starts_itself("reconciler", facts.stack_logs)
    return "start `towline reconcile`"


def _starts_itself(name: str, logs: Path) -> str:
    """What to do about a process that the embedded stack starts, and starts again if it dies."""
    return f"the stack starts its {name} by itself, see {logs / f'{name}.log'} if that takes long"


def shown_seconds(seconds: float) -> str:
    """A duration rounded for display: seconds, minutes or hours."""
    if seconds < 1:
        return "a moment"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"

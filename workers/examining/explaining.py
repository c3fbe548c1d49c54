"""Why a pull does not move, until when, and what it would take: one sentence each.

Pure: from the facts of one moment. The causes are the contract's; None is something that moves.
"""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.catalog.chains import Holder
from shared.catalog.pauses import Pause
from shared.catalog.pull_layers import PullLayer
from workers.contract import LAYERS, PULLS
from workers.examining.estimating import Estimate, estimate, seconds_left
from workers.examining.facts import Facts

_START_WORKER = "celery -A workers.app worker -Q {}"


@dataclass(frozen=True, slots=True)
class Reason:
    """`cause` None: it moves. `takes`: what would make it go on, None where time alone does."""

    cause: str | None
    sentence: str
    until: datetime | None = None
    takes: str | None = None
    # The pull that is waited for.
    pull_id: str | None = None


@dataclass(frozen=True, slots=True)
class LayerStory:
    """A layer that is not stored: what it waits for, and how fast it comes."""

    layer: PullLayer
    reason: Reason
    owner: str | None = None
    bytes_per_second: float | None = None
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """A pull, explained. `since`: when its state began, None where nobody wrote that down."""

    facts: Facts
    since: datetime | None
    reason: Reason
    layers: Sequence[LayerStory]
    takes: Sequence[str]
    estimate: Estimate | None


def explain(facts: Facts) -> Story:
    """Tell what the facts mean."""
    pull = facts.pull
    if pull.final:
        return Story(facts, pull.finished_at, _end(facts), (), _takes_after_end(facts), None)
    layers = [_layer_story(facts, layer) for layer in facts.layers if not layer.stored]
    reason = _of_layers(facts, layers) if pull.state == "fetching" else _of_pull(facts)
    untils = [one.until for one in [reason, *(story.reason for story in layers)] if one.until]
    takes = [one.takes for one in [reason, *(story.reason for story in layers)] if one.takes]
    if facts.office is None or not facts.office.alive:
        takes.append(
            "no reconciler is in office, so nothing that is lost is sent again: `towline reconcile`"
        )
    return Story(
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
    told = pull.error_message or "it ended without a word"
    return Reason(
        None, told if pull.state == "cancelled" else f"{told.removesuffix('.')} ({tries})"
    )


def _takes_after_end(facts: Facts) -> list[str]:
    if facts.pull.state == "complete":
        return []
    return [f"once the cause is gone: `towline retry {facts.pull.id}`"]


def _of_pull(facts: Facts) -> Reason:
    """Of a pull without layers under way: in the line, being resolved, being linked."""
    pull = facts.pull
    if facts.step is not None and facts.step.alive:
        doing = "links the image" if pull.state == "linking" else "resolves the reference"
        return Reason(None, f"{facts.step.owner} {doing}")
    if facts.pause is not None:
        return _paused(facts.pause)
    if pull.state == "queued" and pull.admitted_at is None:
        return _in_line(facts)
    if pull.not_before is not None and pull.not_before > facts.now and pull.waiting_for:
        waiting = pull.waiting_for
        return _told(facts, str(waiting["cause"]), str(waiting["detail"]), pull.not_before)
    if facts.fleet.pull_slots == 0:
        return _no_worker(PULLS)
    there = facts.messages is None or pull.id in (
        facts.messages.coordinators | facts.messages.links
    )
    return _turn_of_message(facts, PULLS, there, facts.fleet.pull_slots)


def _in_line(facts: Facts) -> Reason:
    place = facts.place
    if place is None or place.before == 0:
        return Reason("turn", "it is the next in the line, once there is room in the fleet")
    pulls = "1 pull goes" if place.before == 1 else f"{place.before:,} pulls go"
    return Reason(
        "turn",
        f"{pulls} before it, by priority, then by each requester's share, then by age; "
        f"{place.waiting:,} wait in all",
        takes="more workers, or a pull of a higher priority: `towline pull --priority 9 …`",
    )


def _of_layers(facts: Facts, layers: Sequence[LayerStory]) -> Reason:
    """What the pull as a whole does: the first of its layers that moves, else the first wait."""
    if not layers:
        return _of_pull(facts)
    moving = [story for story in layers if story.reason.cause is None]
    if moving:
        count = "1 layer is" if len(moving) == 1 else f"{len(moving)} layers are"
        return Reason(None, f"{count} being fetched")
    if facts.pause is not None:
        return _paused(facts.pause)
    causes = {str(story.reason.cause) for story in layers}
    if len(causes) == 1:
        return layers[0].reason
    return Reason(str(layers[0].reason.cause), f"its layers wait: {', '.join(sorted(causes))}")


def _layer_story(facts: Facts, layer: PullLayer) -> LayerStory:
    holder = facts.holders.get(layer.digest)
    if holder is None or not holder.alive:
        return LayerStory(layer, _waiting(facts, layer, holder))
    speed = facts.speeds.get(layer.digest)
    left = seconds_left(layer.size_bytes, holder.bytes_done, speed)
    return LayerStory(layer, _held(facts, holder), holder.owner, speed, left)


def _held(facts: Facts, holder: Holder) -> Reason:
    if holder.pull_id in {facts.pull.id, None}:
        return Reason(None, f"being fetched by {holder.owner}")
    leader = facts.leaders.get(str(holder.pull_id))
    named = f"the pull {holder.pull_id}"
    if leader is not None:
        named += f" of {leader.reference} (priority {leader.priority})"
    return Reason(
        "pull",
        f"{named} fetches it, on {holder.owner}; should that end, this pull goes on with its bytes",
        pull_id=holder.pull_id,
    )


def _waiting(facts: Facts, layer: PullLayer, holder: Holder | None) -> Reason:
    """Of a layer that nobody is at work on."""
    if facts.pause is not None:
        return _paused(facts.pause)
    if layer.not_before is not None and layer.not_before > facts.now and layer.waiting_for:
        waiting = layer.waiting_for
        detail = str(waiting["detail"])
        if layer.failures:
            tries = "1 try" if layer.failures == 1 else f"{layer.failures} tries"
            detail = f"{detail.removesuffix('.')} ({tries} without progress)"
        return _told(facts, str(waiting["cause"]), detail, layer.not_before)
    if facts.fleet.layer_slots == 0:
        return _no_worker(LAYERS)
    if holder is not None and holder.owner is not None:
        return Reason(
            "turn",
            f"{holder.owner} fell silent {-holder.seconds:.0f} s ago; another worker goes on with "
            "its bytes",
            takes=_reconciler_takes(facts),
        )
    leader = _followed(facts, layer)
    if leader is not None:
        return Reason(
            "pull",
            f"it comes by the message of the pull {leader}; should that end, this pull goes on",
            pull_id=leader,
        )
    there = facts.messages is None or (facts.pull.id, str(layer.digest)) in facts.messages.layers
    return _turn_of_message(facts, LAYERS, there, facts.fleet.layer_slots)


def _followed(facts: Facts, layer: PullLayer) -> str | None:
    """The pull by whose message a layer comes that has none of its own; None where it has one, or
    the other one's is lost.
    """
    if layer.waiting_for is None or layer.waiting_for["cause"] != "pull":
        return None
    told = str(layer.waiting_for["detail"])
    if facts.messages is None:
        return told
    digest = str(layer.digest)
    sent = sorted(pull_id for pull_id, each in facts.messages.layers if each == digest)
    if facts.pull.id in sent:
        return None
    return told if told in sent else next(iter(sent), None)


def _told(facts: Facts, cause: str, detail: str, until: datetime) -> Reason:
    """What the row says: whoever made it wait knew why."""
    takes = {
        "space": "free space on the volume, or enlarge it",
        "rate_limit": "credentials with a higher limit, or patience",
    }.get(cause)
    if cause == "space" and facts.free_bytes is not None:
        detail = f"{detail} (it has {facts.free_bytes:,} bytes free by now)"
    return Reason(cause, detail, until, takes)


def _paused(pause: Pause) -> Reason:
    whose = "the fleet" if pause.scope == "fleet" else f"the {pause.scope} {pause.name}"
    since = f"{pause.paused_at.astimezone():%Y-%m-%d %H:%M:%S}"
    return Reason("paused", f"{whose} is paused since {since}", takes=f"`{how_to_resume(pause)}`")


def _no_worker(queue: str) -> Reason:
    return Reason(
        "no_worker",
        f"no worker consumes {queue}",
        takes=f"a worker: `{_START_WORKER.format(queue)}`",
    )


def _turn_of_message(facts: Facts, queue: str, there: bool, slots: int | None) -> Reason:
    if there:
        room = "" if slots is None else f", behind which stand {slots} slots"
        if slots == 1:
            room = ", behind which stands 1 slot"
        known = "its message waits" if facts.messages is not None else "its message should wait"
        return Reason("turn", f"{known} in {queue}{room}")
    return Reason(
        "turn",
        "no message is on its way for it; the reconciler sends it again within seconds",
        takes=_reconciler_takes(facts),
    )


def _reconciler_takes(facts: Facts) -> str | None:
    if facts.office is not None and facts.office.alive:
        return None
    return "`towline reconcile`: no reconciler is in office"


def shown_seconds(seconds: float) -> str:
    """A duration for people, no finer than it is known."""
    if seconds < 1:
        return "a moment"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"

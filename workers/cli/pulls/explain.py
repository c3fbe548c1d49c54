"""`towline explain`: why a pull does not move, until when, and what would unblock it."""

from dataclasses import replace
from datetime import datetime

import click
from rich.filesize import decimal
from rich.text import Text

from shared.catalog.schema.revision import volume_id
from shared.errors import InvalidArgument, VolumeFull, VolumeUnavailable
from shared.volume.store import Volume
from workers.broker_messages import BrokerMessages, Messages
from workers.cli import documents
from workers.cli.display.branches import Branch, print_branch
from workers.cli.display.tables import shown_time
from workers.cli.options import json_option
from workers.cli.prefixes import whole_id
from workers.cli.session import Session, open_session
from workers.client import QueueUnavailable
from workers.doctor.estimates import measure
from workers.doctor.explanation import Explanation, LayerExplanation, Reason, explain, shown_seconds
from workers.doctor.facts import Facts, read_facts
from workers.embedded.joining import stack_logs

_SHORT_DIGEST_CHARACTERS = 12
# If more layers than this wait for the same reason, only the first is shown, with a count.
_SHOWN_ALIKE = 4


@click.command("explain")
@click.argument("pull_id", metavar="PULL")
@json_option
def explain_command(pull_id: str, *, as_json: bool) -> None:
    """Say why a pull waits, until when, and what would unblock it.

    PULL is an id, or its first characters: at least 8, and enough to tell it from other ids. If
    layers are being fetched, this takes some seconds to measure their speed.
    """
    with open_session() as session:
        story = explain(_facts(session, whole_id(session.catalog, pull_id)))
    if as_json:
        documents.print_document(documents.explanation(story))
    else:
        print_branch(story_branch(story))


def _facts(session: Session, pull_id: str) -> Facts:
    facts = read_facts(session.catalog, pull_id)
    if facts.pull.has_ended:
        return facts
    logs = stack_logs(session.settings) if session.embedded else None
    speeds = measure(session.catalog, pull_id)
    if speeds:
        facts = read_facts(session.catalog, pull_id)
    return replace(
        facts,
        speeds=speeds,
        messages=_messages(session, facts),
        free_bytes=_free_bytes(session),
        stack_logs=logs,
    )


def _messages(session: Session, facts: Facts) -> Messages | None:
    backlog = BrokerMessages(session.app)
    try:
        return backlog.read({facts.pull.id}, {str(layer.digest) for layer in facts.layers})
    except QueueUnavailable:
        return None
    finally:
        backlog.close()


def _free_bytes(session: Session) -> int | None:
    """Free bytes of the volume; None if it is not mounted on this machine."""
    with session.catalog.begin() as tx:
        identity = volume_id(tx)
    if identity is None:
        return None
    try:
        volume = Volume(session.settings.volume_path, identity)
        try:
            return volume.space().free_bytes
        finally:
            volume.close()
    except (InvalidArgument, VolumeUnavailable, VolumeFull):
        return None


def story_branch(story: Explanation) -> Branch:
    """The explanation as nested lines, for people."""
    below = [_reason_line(story)]
    stored = [layer for layer in story.facts.layers if layer.stored]
    if story.facts.layers and not story.facts.pull.has_ended:
        done = sum(layer.bytes_done for layer in story.facts.layers)
        total = sum(layer.size_bytes for layer in story.facts.layers)
        layers = f"{len(stored)} of {len(story.facts.layers)} layers stored"
        below.append(
            Branch(Text(f"{layers}, {decimal(done)} of {decimal(total)}"), _layer_lines(story))
        )
    if story.facts.messages is None and not story.facts.pull.has_ended:
        below.append(
            Branch(Text("the queue cannot be reached, so its messages are not known", "yellow"))
        )
    if story.takes:
        takes = [Branch(Text(action)) for action in story.takes]
        below.append(Branch(Text("what would unblock it", "bold"), takes))
    if story.estimate is not None:
        below.append(Branch(Text(_estimate_sentence(story))))
    return Branch(_head(story), below)


def _head(story: Explanation) -> Text:
    pull = story.facts.pull
    style = {"complete": "green", "failed": "red"}.get(pull.state, "cyan")
    head = Text(f"{pull.reference} ", "bold").append(f"{pull.platform or ''} ", "")
    head.append(pull.state, style)
    if story.since is not None:
        head.append(f" since {shown_time(story.since)}")
        if not pull.has_ended:
            seconds = (story.facts.now - story.since).total_seconds()
            head.append(f" ({shown_seconds(seconds)})")
    head.append(f", priority {pull.priority}")
    if pull.requested_by:
        head.append(f", requested by {pull.requested_by}")
    if pull.deadline_at is not None and not pull.has_ended:
        head.append(f", deadline {shown_time(pull.deadline_at)}")
    return head


def _reason_line(story: Explanation) -> Branch:
    reason = story.reason
    return Branch(_why(story.facts, reason))


def _why(facts: Facts, reason: Reason) -> Text:
    line = Text()
    if reason.cause is not None:
        line.append(f"waits ({reason.cause}): ", "yellow")
    return line.append(reason.sentence).append(_until(facts, reason.until))


def _layer_lines(story: Explanation) -> list[Branch]:
    lines = []
    alike: dict[str, list[LayerExplanation]] = {}
    for layer in story.layers:
        alike.setdefault(f"{layer.reason.cause} {layer.reason.sentence}", []).append(layer)
    for layers in alike.values():
        shown = layers if len(layers) <= _SHOWN_ALIKE else layers[:1]
        lines += [Branch(_layer_line(story, layer)) for layer in shown]
        if len(shown) < len(layers):
            total = sum(layer.layer.size_bytes for layer in layers[1:])
            lines.append(
                Branch(Text(f"and {len(layers) - 1} more ({decimal(total)}): the same", "dim"))
            )
    return lines


def _layer_line(story: Explanation, layer_story: LayerExplanation) -> Text:
    layer = layer_story.layer
    line = Text(layer.digest.encoded[:_SHORT_DIGEST_CHARACTERS], "bold")
    line.append(f"  {decimal(layer.bytes_done)} of {decimal(layer.size_bytes)}")
    if layer_story.bytes_per_second is not None:
        line.append(f" at {decimal(int(layer_story.bytes_per_second))}/s")
    if layer_story.seconds_left is not None:
        line.append(f", {shown_seconds(layer_story.seconds_left)} left")
    if layer_story.reason == story.reason:
        # The line of the pull has the sentence already.
        return line.append(f": waits ({layer_story.reason.cause})", "yellow")
    return line.append(": ").append(_why(story.facts, layer_story.reason))


def _until(facts: Facts, until: datetime | None) -> str:
    if until is None or until <= facts.now:
        return ""
    seconds = (until - facts.now).total_seconds()
    return f"; until {until.astimezone():%H:%M:%S}, {shown_seconds(seconds)} from now"


def _estimate_sentence(story: Explanation) -> str:
    estimate = story.estimate
    if estimate is None or estimate.seconds is None:
        return f"no estimate: {estimate.sentence}" if estimate else ""
    return f"about {shown_seconds(estimate.seconds)} {estimate.sentence}"

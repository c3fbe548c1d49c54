"""`towline explain`: why a pull does not move, until when, and what would unblock it."""

from datetime import datetime

import click
from rich.filesize import decimal
from rich.text import Text

from workers.cli import documents
from workers.cli.display.branches import Branch, print_branch
from workers.cli.display.tables import shown_seconds, shown_time
from workers.cli.options import json_option
from workers.cli.prefixes import whole_id
from workers.cli.session import Session, open_session
from workers.doctor.download_speeds import measure
from workers.doctor.explanation import OPEN_ENDED, Explanation, LayerExplanation, Reason, explain
from workers.doctor.pull_snapshot import read_snapshot
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
        explained = _explain(session, whole_id(session.catalog, pull_id))
    if as_json:
        documents.print_document(documents.explanation(explained))
    else:
        print_branch(branch(explained))


def _explain(session: Session, pull_id: str) -> Explanation:
    logs = stack_logs(session.settings) if session.embedded else None
    speeds = measure(session.catalog, pull_id)
    return explain(read_snapshot(session.catalog, pull_id, speeds, logs))


def branch(explained: Explanation) -> Branch:
    """The explanation as nested lines."""
    below = [Branch(_why(explained, explained.reason))]
    layers = explained.snapshot.layers
    if layers and not explained.snapshot.pull.has_ended:
        stored = sum(layer.stored for layer in layers)
        done = sum(layer.bytes_done for layer in layers)
        total = sum(layer.size_bytes for layer in layers)
        line = f"{stored} of {len(layers)} layers stored, {decimal(done)} of {decimal(total)}"
        below.append(Branch(Text(line), _layer_lines(explained)))
    if explained.remedies:
        remedies = [Branch(Text(remedy)) for remedy in explained.remedies]
        below.append(Branch(Text("what would unblock it", "bold"), remedies))
    estimate = explained.estimate
    if estimate is not None and estimate.seconds is not None:
        below.append(Branch(Text(f"about {shown_seconds(estimate.seconds)} {estimate.sentence}")))
    elif estimate is not None:
        below.append(Branch(Text(f"no estimate: {estimate.sentence}")))
    return Branch(_head(explained), below)


def _head(explained: Explanation) -> Text:
    pull = explained.snapshot.pull
    style = {"complete": "green", "failed": "red"}.get(pull.state, "cyan")
    head = Text(f"{pull.reference} ", "bold").append(f"{pull.platform or ''} ", "")
    head.append(pull.state, style)
    if explained.since is not None:
        head.append(f" since {shown_time(explained.since)}")
        if not pull.has_ended:
            seconds = (explained.snapshot.now - explained.since).total_seconds()
            head.append(f" ({shown_seconds(seconds)})")
    head.append(f", priority {pull.priority}")
    if pull.requested_by:
        head.append(f", requested by {pull.requested_by}")
    if pull.deadline_at is not None and not pull.has_ended:
        head.append(f", deadline {shown_time(pull.deadline_at)}")
    return head


def _why(explained: Explanation, reason: Reason) -> Text:
    line = Text()
    if reason.cause is not None:
        line.append(f"waits ({reason.cause}): ", "yellow")
    line.append(reason.sentence)
    if reason.until is not None and reason.cause not in OPEN_ENDED:
        line.append(_until(reason.until, explained.snapshot.now))
    return line


def _until(until: datetime, now: datetime) -> str:
    if until <= now:
        return ""
    seconds = (until - now).total_seconds()
    return f"; until {until.astimezone():%H:%M:%S}, {shown_seconds(seconds)} from now"


def _layer_lines(explained: Explanation) -> list[Branch]:
    lines = []
    alike: dict[str, list[LayerExplanation]] = {}
    for layer in explained.layers:
        alike.setdefault(f"{layer.reason.cause} {layer.reason.sentence}", []).append(layer)
    for layers in alike.values():
        shown = layers if len(layers) <= _SHOWN_ALIKE else layers[:1]
        lines += [Branch(_layer_line(explained, layer)) for layer in shown]
        if len(shown) < len(layers):
            total = sum(layer.layer.size_bytes for layer in layers[1:])
            lines.append(
                Branch(Text(f"and {len(layers) - 1} more ({decimal(total)}): the same", "dim"))
            )
    return lines


def _layer_line(explained: Explanation, explained_layer: LayerExplanation) -> Text:
    layer, reason = explained_layer.layer, explained_layer.reason
    line = Text(layer.digest.encoded[:_SHORT_DIGEST_CHARACTERS], "bold")
    line.append(f"  {decimal(layer.bytes_done)} of {decimal(layer.size_bytes)}")
    if explained_layer.bytes_per_second is not None:
        line.append(f" at {decimal(int(explained_layer.bytes_per_second))}/s")
    if explained_layer.seconds_left is not None:
        line.append(f", {shown_seconds(explained_layer.seconds_left)} left")
    if reason == explained.reason:
        # The line of the pull has the sentence already.
        return line.append(f": waits ({reason.cause})", "yellow")
    return line.append(": ").append(_why(explained, reason))

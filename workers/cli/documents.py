"""What commands print with `--json`. Fields have the names of SQL's columns.

One thing is `{"format_version": "1.0", …columns}`; a list is `{"format_version": "1.0", "items":
[…]}`. A new field raises the minor version; a change to a field raises the major version.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from textwrap import indent
from typing import Any

import click

from shared.catalog.admission.pauses import Pause
from shared.catalog.content.image_rows import ImageRow, LayerFile
from shared.catalog.content.tag_history import HistoryEntry
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.pull_values import Pull
from workers.doctor.check_result import CheckResult
from workers.doctor.explanation import Explanation, LayerExplanation

FORMAT_VERSION = "1.0"
Document = dict[str, Any]

# The columns of `pulls` that readers may rely on (docs/catalog.md).
_PULL_COLUMNS = (
    *("id", "reference", "platform", "state", "waiting_for", "priority", "requested_by", "labels"),
    *("retry_of", "manifest_digest", "bytes_total", "bytes_done"),
    *("error_class", "error_code", "error_message", "attempts"),
    *("created_at", "resolved_at", "started_at", "finished_at", "receipt"),
)


def print_document(document: Document) -> None:
    """Print one document over several lines."""
    click.echo(_text({"format_version": FORMAT_VERSION, **document}, indent=2))


def print_line(document: Document) -> None:
    """Print one document on one line."""
    click.echo(_text({"format_version": FORMAT_VERSION, **document}))


def print_items(items: Iterable[Document], **fields: Any) -> None:
    """Print a list while it is read. `fields`: what else the document says."""
    head = _text({"format_version": FORMAT_VERSION, **fields}, indent=2).removesuffix("\n}")
    click.echo(f'{head},\n  "items": [', nl=False)
    before = "\n"
    for item in items:
        click.echo(before + indent(_text(item, indent=2), "    "), nl=False)
        before = ",\n"
    click.echo("]\n}" if before == "\n" else "\n  ]\n}")


def _text(document: Mapping[str, Any], **options: Any) -> str:
    return json.dumps(document, default=datetime.isoformat, **options)


def pull(row: Pull) -> Document:
    """A row of `pulls`; `receipt` is as on the wire."""
    return {column: getattr(row, column) for column in _PULL_COLUMNS}


def pull_with_layers(row: Pull, layers: Sequence[PullLayer]) -> Document:
    """A row of `pulls`, and its layers in manifest order."""
    return {**pull(row), "layers": list(map(_layer, layers))}


def pull_at_speed(row: Pull, bytes_per_second: float | None) -> Document:
    """A row of `pulls`, and how fast its bytes arrive; None where that is not known."""
    return {
        **pull(row),
        "bytes_per_second": round(bytes_per_second) if bytes_per_second is not None else None,
    }


def _layer(layer: PullLayer) -> Document:
    return {
        "digest": str(layer.digest),
        "size_bytes": layer.size_bytes,
        "bytes_done": layer.bytes_done,
        "stored": layer.stored,
        "source": layer.source,
        "attempts": layer.attempts,
        "failures": layer.failures,
        # The worker that is fetching it, and the pull that it fetches it for.
        "owner": layer.owner,
        "fetched_for": layer.leader,
        "waiting_for": layer.waiting_for,
    }


def image(row: ImageRow) -> Document:
    """A row of `images`, with digests instead of keys."""
    return asdict(row)


def image_with_layers(row: ImageRow, layers: Sequence[LayerFile]) -> Document:
    """A row of `images`, and its rows of `image_layers`."""
    return {**image(row), "layers": [asdict(layer) for layer in layers]}


def history_entry(row: HistoryEntry) -> Document:
    """A row of `image_history`."""
    return asdict(row)


def pause(row: Pause) -> Document:
    """A row of `pauses`."""
    return asdict(row)


def check_results(results: Sequence[CheckResult]) -> Document:
    """What `towline doctor` has found."""
    healthy = not any(result.level == "problem" for result in results)
    return {"healthy": healthy, "checks": [asdict(result) for result in results]}


def explanation(explained: Explanation) -> Document:
    """Why a pull is in its state."""
    row, place, reason = explained.snapshot.pull, explained.snapshot.place, explained.reason
    return {
        "id": row.id,
        "reference": row.reference,
        "platform": row.platform,
        "state": row.state,
        "since": explained.since,
        "priority": row.priority,
        "requested_by": row.requested_by,
        "deadline_at": row.deadline_at,
        "place": asdict(place) if place else None,
        "cause": reason.cause,
        "sentence": reason.sentence,
        "until": reason.until,
        "pull": reason.pull_id,
        "layers": [_explained_layer(explained, layer) for layer in explained.layers],
        "takes": list(explained.remedies),
        "estimate": asdict(explained.estimate) if explained.estimate else None,
        "error_class": row.error_class,
    }


def _explained_layer(explained: Explanation, layer: LayerExplanation) -> Document:
    reason = layer.reason
    other = explained.snapshot.others.get(reason.pull_id or "")
    return {
        **_layer(layer.layer),
        "bytes_per_second": layer.bytes_per_second,
        "seconds_left": layer.seconds_left,
        "cause": reason.cause,
        "sentence": reason.sentence,
        "until": reason.until,
        "pull": {"id": other.id, "reference": other.reference, "state": other.state}
        if other
        else None,
    }

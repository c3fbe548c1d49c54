"""`towline status`: the newest pulls, or one pull with its layers."""

import json
from itertools import chain, islice

import click
from rich.filesize import decimal

from shared.catalog.database.paging import pages
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import listings
from workers.cli.fitting import (
    Column,
    cut_end,
    cut_reference,
    short_digests,
    short_references,
    short_times,
)
from workers.cli.prefixes import short_ids, whole_id
from workers.cli.pull import pull_document
from workers.cli.session import open_session
from workers.cli.tables import (
    limit_option,
    print_documents,
    print_fitted,
    print_remaining_count,
    shown_time,
)
from workers.cli.waiting import shown_waiting, waiting_sentence
from workers.cli.watching import Snapshot, snapshot

COLUMNS = (
    Column("pull", short=short_ids),
    Column("reference", short=short_references, cut=cut_reference, least=30),
    Column("platform", rank=5),
    # As wide as the longest name of an error class.
    Column("state", cut=cut_end, least=20),
    Column("done", rank=1, right=True),
    Column("total", rank=2, right=True),
    Column("since", rank=4, short=short_times),
    Column("waits for", rank=3, cut=cut_end, least=10),
)
LAYER_COLUMNS = (
    Column("layer", short=short_digests),
    Column("done", rank=1, right=True),
    Column("size", rank=2, right=True),
    Column("state", cut=cut_end, least=20),
    Column("attempts", rank=3, right=True),
)


@click.command("status")
@click.argument("pull_id", required=False, metavar="[PULL]")
@limit_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def status_command(pull_id: str | None, limit: int, *, as_json: bool) -> None:
    """List the newest pulls, or show one pull with its layers.

    PULL is an id, or its first characters: at least 8, and enough to tell it from other ids.
    """
    with open_session() as session:
        if pull_id is not None:
            shown_pull = snapshot(session.catalog, whole_id(session.catalog, pull_id))
            _show_one(shown_pull, as_json=as_json)
            return
        found = chain.from_iterable(pages(session.catalog, listings.recent))
        rows = islice(found, limit or None)
        if as_json:
            print_documents(map(pull_document, rows))
        else:
            print_fitted(COLUMNS, map(_row, rows))
        print_remaining_count(session.catalog, limit, listings.count, as_json=as_json)


def _row(pull: Pull) -> tuple[str, ...]:
    waiting = shown_waiting(pull)
    return (
        pull.id,
        pull.reference,
        pull.platform or "",
        str(pull.error_class) if pull.state == "failed" else pull.state,
        decimal(pull.bytes_done),
        decimal(pull.bytes_total) if pull.bytes_total is not None else "",
        shown_time(pull.created_at),
        waiting_sentence(waiting) if waiting else "",
    )


def _show_one(shown_pull: Snapshot, *, as_json: bool) -> None:
    layers = [
        {
            "digest": str(layer.digest),
            "size": layer.size_bytes,
            "bytes_done": layer.bytes_done,
            "stored": layer.stored,
            "source": layer.source,
            "attempts": layer.attempts,
            "owner": layer.owner,
            "waiting_for": layer.waiting_for,
        }
        for layer in shown_pull.layers
    ]
    if as_json:
        document = {"layers": layers, **pull_document(shown_pull.pull)}
        click.echo(json.dumps(document, indent=2))
        return
    for key, value in pull_document(shown_pull.pull).items():
        if value is not None and key != "layers":
            shown = waiting_sentence(value) if key == "waiting_for" else value
            click.echo(f"{key:<14} {shown}")
    print_fitted(
        LAYER_COLUMNS,
        [_layer(shown_pull.pull.id, layer) for layer in shown_pull.layers]
        or _receipt_layers(shown_pull.pull),
    )


def _layer(pull_id: str, layer: PullLayer) -> tuple[str, ...]:
    return (
        str(layer.digest),
        decimal(layer.bytes_done),
        decimal(layer.size_bytes),
        _layer_state(pull_id, layer),
        str(layer.attempts),
    )


def _receipt_layers(pull: Pull) -> list[tuple[str, ...]]:
    """The layers from the receipt: a pull whose image was unchanged has no rows of layers."""
    distinct = {layer["digest"]: layer for layer in (pull.receipt or {}).get("layers", ())}
    return [
        (
            digest,
            decimal(layer["size"]),
            decimal(layer["size"]),
            str(layer["source"]),
            str(layer["attempts"]),
        )
        for digest, layer in distinct.items()
    ]


def _layer_state(pull_id: str, layer: PullLayer) -> str:
    if layer.stored:
        return layer.source or "stored"
    if layer.owner is not None:
        fetched = f"fetched by {layer.owner}"
        return fetched if layer.leader == pull_id else f"joined, {fetched}"
    return waiting_sentence(layer.waiting_for) if layer.waiting_for else "open"

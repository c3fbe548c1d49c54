"""`towline status`: what the fleet's pulls are doing."""

import json
from itertools import chain, islice

import click
from rich.filesize import decimal

from shared.catalog import pulls
from shared.catalog.paging import pages
from shared.catalog.pull_layers import PullLayer
from shared.catalog.pull_values import Pull
from workers.cli.pull import pull_document
from workers.cli.session import open_session
from workers.cli.tables import (
    limit_option,
    print_documents,
    print_table,
    say_more,
    shown_time,
)
from workers.cli.waiting import waiting_sentence
from workers.cli.watching import Snapshot, snapshot

_COLUMNS = ("pull", "reference", "platform", "state", "done", "total", "since", "waits for")


@click.command("status")
@click.argument("pull_id", required=False, metavar="[PULL]")
@limit_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def status_command(pull_id: str | None, limit: int, *, as_json: bool) -> None:
    """List the newest pulls, or show one with its layers."""
    with open_session() as session:
        if pull_id is not None:
            one = snapshot(session.catalog, pull_id)
            _show_one(one, as_json=as_json)
            return
        found = chain.from_iterable(pages(session.catalog, pulls.recent))
        rows = islice(found, limit or None)
        if as_json:
            print_documents(map(pull_document, rows))
        else:
            print_table(_COLUMNS, map(_row, rows))
        say_more(session.catalog, limit, pulls.count, as_json=as_json)


def _row(pull: Pull) -> tuple[str, ...]:
    return (
        pull.id,
        pull.reference,
        pull.platform or "",
        str(pull.error_class) if pull.state == "failed" else pull.state,
        decimal(pull.bytes_done),
        decimal(pull.bytes_total) if pull.bytes_total is not None else "",
        shown_time(pull.created_at),
        waiting_sentence(pull.waiting_for) if pull.waiting_for else "",
    )


def _show_one(one: Snapshot, *, as_json: bool) -> None:
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
        for layer in one.layers
    ]
    if as_json:
        document = {"layers": layers, **pull_document(one.pull)}
        click.echo(json.dumps(document, indent=2))
        return
    for key, value in pull_document(one.pull).items():
        if value is not None and key != "layers":
            shown = waiting_sentence(value) if key == "waiting_for" else value
            click.echo(f"{key:<14} {shown}")
    print_table(
        ("layer", "done", "size", "state", "attempts"),
        [_layer(one.pull.id, layer) for layer in one.layers] or _receipt_layers(one.pull),
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
    """Of a pull that found everything there, and so never listed what it takes."""
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
        who = f"by {layer.owner}"
        return f"fetched {who}" if layer.leader == pull_id else f"joined, fetched {who}"
    return waiting_sentence(layer.waiting_for) if layer.waiting_for else "open"

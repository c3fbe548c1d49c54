"""`towline status`: the newest pulls, or one pull with its layers."""

from collections.abc import Sequence
from itertools import chain, islice

import click
from rich.filesize import decimal

from shared.catalog.database.paging import pages
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import listings
from workers.cli import documents
from workers.cli.display.fitting import (
    Column,
    cut_end,
    cut_reference,
    short_digests,
    short_references,
    short_times,
)
from workers.cli.display.tables import (
    print_fields,
    print_fitted,
    print_remaining_count,
    shown_time,
)
from workers.cli.display.waiting import shown_waiting, waiting_sentence
from workers.cli.options import json_option, limit_option
from workers.cli.prefixes import short_ids, whole_id
from workers.cli.session import open_session
from workers.cli.watching import snapshot

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
@json_option
def status_command(pull_id: str | None, limit: int, *, as_json: bool) -> None:
    """List the newest pulls, or show one pull with its layers.

    PULL is an id, or its first characters: at least 8, and enough to tell it from other ids.
    """
    with open_session() as session:
        if pull_id is not None:
            found = snapshot(session.catalog, whole_id(session.catalog, pull_id))
            if as_json:
                documents.print_document(documents.pull_with_layers(found.pull, found.layers))
            else:
                _print(found.pull, found.layers)
            return
        every = chain.from_iterable(pages(session.catalog, listings.recent))
        rows = islice(every, limit or None)
        if as_json:
            documents.print_items(map(documents.pull, rows))
        else:
            print_fitted(COLUMNS, map(_cells, rows))
        print_remaining_count(session.catalog, limit, listings.count, as_json=as_json)


def _cells(pull: Pull) -> tuple[str, ...]:
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


def _print(pull: Pull, layers: Sequence[PullLayer]) -> None:
    receipt, waiting = pull.receipt or {}, pull.waiting_for
    total = decimal(pull.bytes_total) if pull.bytes_total is not None else "?"
    print_fields(
        ("pull", pull.id),
        ("reference", pull.reference),
        ("platform", pull.platform),
        ("state", pull.state),
        ("waits for", waiting_sentence(waiting) if waiting else None),
        ("manifest", pull.manifest_digest),
        ("bytes", f"{decimal(pull.bytes_done)} of {total}"),
        ("fetched", decimal(receipt["bytes_fetched"]) if receipt else None),
        ("error", pull.error_class),
        ("code", pull.error_code),
        ("message", pull.error_message),
        ("attempts", str(pull.attempts) if pull.error_class else None),
        ("priority", str(pull.priority)),
        ("requested by", pull.requested_by),
        ("retry of", pull.retry_of),
        ("created", shown_time(pull.created_at)),
        ("started", shown_time(pull.started_at) if pull.started_at else None),
        ("finished", shown_time(pull.finished_at) if pull.finished_at else None),
    )
    print_fitted(
        LAYER_COLUMNS,
        [_layer_cells(pull.id, layer) for layer in layers] or _receipt_layers(pull),
    )


def _layer_cells(pull_id: str, layer: PullLayer) -> tuple[str, ...]:
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

"""`towline ls`: the images on the volume."""

from itertools import chain, islice

import click
from rich.filesize import decimal

from shared.catalog.content import image_rows
from shared.catalog.content.image_rows import ImageRow
from shared.catalog.database.paging import pages
from workers.cli import documents
from workers.cli.display.fitting import (
    Column,
    cut_reference,
    short_digests,
    short_references,
    short_times,
)
from workers.cli.display.tables import print_fitted, print_remaining_count, shown_time
from workers.cli.options import json_option, limit_option
from workers.cli.session import open_session

COLUMNS = (
    Column("reference", short=short_references, cut=cut_reference, least=30),
    Column("platform", rank=3),
    Column("manifest", rank=2, short=short_digests),
    Column("size", rank=1, right=True),
    Column("pulled", rank=4, short=short_times),
)


@click.command("ls")
@limit_option
@json_option
def ls_command(limit: int, *, as_json: bool) -> None:
    """List the images on the volume, by name."""
    with open_session() as session:
        found = chain.from_iterable(pages(session.catalog, image_rows.listing))
        rows = islice(found, limit or None)
        if as_json:
            documents.print_items(map(documents.image, rows))
        else:
            print_fitted(COLUMNS, map(_cells, rows))
        print_remaining_count(session.catalog, limit, image_rows.count, as_json=as_json)


def _cells(row: ImageRow) -> tuple[str, ...]:
    return (
        row.reference,
        row.platform,
        row.manifest_digest,
        decimal(row.size_bytes),
        shown_time(row.pulled_at),
    )

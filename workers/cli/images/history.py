"""`towline history`: the manifests that a tag has named."""

import click

from shared.catalog.content import tag_history
from shared.catalog.content.tag_history import HistoryEntry
from shared.catalog.database.catalog import Connection
from shared.errors import InvalidArgument
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from workers.cli import documents
from workers.cli.display.fitting import Column, short_digests
from workers.cli.display.tables import print_fitted, print_remaining_count, shown_time
from workers.cli.options import json_option, limit_option
from workers.cli.session import open_session

_COLUMNS = (
    Column("since"),
    Column("platform", rank=1),
    Column("manifest", short=short_digests),
)


@click.command("history")
@click.argument("reference")
@click.option("--platform", help="os/arch[/variant]. Default: all platforms.")
@limit_option
@json_option
def history_command(reference: str, platform: str | None, limit: int, *, as_json: bool) -> None:
    """List the manifests that a tag has named, newest first."""
    parsed = Reference.parse(reference)
    wanted = str(Platform.parse(platform)) if platform else None
    with open_session() as session:
        with session.catalog.begin() as tx:
            rows = tag_history.of_reference(tx, str(parsed), wanted, limit or None)
        if not rows:
            raise InvalidArgument(_nothing(parsed, wanted))
        if as_json:
            documents.print_items(map(documents.history_entry, rows))
        else:
            print_fitted(_COLUMNS, map(_row, rows))

        def count(tx: Connection, most: int) -> int:
            return tag_history.count(tx, str(parsed), wanted, most)

        print_remaining_count(session.catalog, limit, count, as_json=as_json)


def _nothing(reference: Reference, platform: str | None) -> str:
    image = f"{reference} for {platform}" if platform else str(reference)
    why = (
        "a digest always names the same manifest"
        if reference.digest
        else "its history begins with its first complete pull"
    )
    return f"{image} has no history: {why}."


def _row(row: HistoryEntry) -> tuple[str, ...]:
    return shown_time(row.first_seen_at), row.platform, row.manifest_digest

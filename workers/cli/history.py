"""`towline history`: which manifests a tag has named."""

import json

import click

from shared.catalog import history
from shared.errors import InvalidArgument
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from workers.cli.session import open_session
from workers.cli.tables import print_table, shown_time


@click.command("history")
@click.argument("reference")
@click.option("--platform", help="os/arch[/variant]; all of them where it is not given.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def history_command(reference: str, platform: str | None, *, as_json: bool) -> None:
    """Show what a tag has named since its first pull, newest first."""
    parsed = Reference.parse(reference)
    wanted = str(Platform.parse(platform)) if platform else None
    with open_session() as session, session.catalog.begin() as tx:
        rows = history.of_reference(tx, str(parsed), wanted)
    if not rows:
        here = f"{parsed} for {wanted}" if wanted else str(parsed)
        why = (
            "a digest always names the same"
            if parsed.digest
            else "it begins with the first pull that is complete"
        )
        raise InvalidArgument(f"{here} has no history: {why}.")
    if as_json:
        documents = [
            {
                "reference": row.reference,
                "platform": row.platform,
                "manifest": row.manifest_digest,
                "first_seen_at": row.first_seen_at.isoformat(),
            }
            for row in rows
        ]
        click.echo(json.dumps(documents, indent=2))
        return
    print_table(
        ("since", "platform", "manifest"),
        [(shown_time(row.first_seen_at), row.platform, row.manifest_digest) for row in rows],
    )

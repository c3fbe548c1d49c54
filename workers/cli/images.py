"""`towline ls` and `towline inspect`: which images are here, and which files make one up."""

import json
from typing import Any

import click
from rich.filesize import decimal

from shared.catalog import images
from shared.errors import InvalidArgument
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from workers.cli.session import open_session
from workers.cli.tables import print_table, shown_time


@click.command("ls")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def ls_command(*, as_json: bool) -> None:
    """List the images on the volume."""
    with open_session() as session, session.catalog.begin() as tx:
        rows = images.listing(tx)
    if as_json:
        click.echo(json.dumps([_document(row) for row in rows], indent=2))
        return
    print_table(
        ("reference", "platform", "manifest", "size", "pulled"),
        [
            (
                row.reference,
                row.platform,
                row.manifest_digest,
                decimal(row.size_bytes),
                shown_time(row.pulled_at),
            )
            for row in rows
        ],
    )


@click.command("inspect")
@click.argument("reference")
@click.option("--platform", help="os/arch[/variant]; all that are here where it is not given.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def inspect_command(reference: str, platform: str | None, *, as_json: bool) -> None:
    """Show an image: its manifest, and its layers in order with their files."""
    name = str(Reference.parse(reference))
    wanted = str(Platform.parse(platform)) if platform else None
    with open_session() as session, session.catalog.begin() as tx:
        found = [
            _document(row) | {"layers": _layers(images.layers_of(tx, name, row.platform))}
            for row in images.listing(tx)
            if row.reference == name and wanted in {None, row.platform}
        ]
    if not found:
        here = f"{name} for {wanted}" if wanted else name
        raise InvalidArgument(f"{here} is not on the volume: `towline ls` lists what is.")
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for image in found:
        _print(image)


def _document(row: images.ImageRow) -> dict[str, Any]:
    return {
        "reference": row.reference,
        "platform": row.platform,
        "manifest": row.manifest_digest,
        "index": row.index_digest,
        "size": row.size_bytes,
        "pulled_at": row.pulled_at.isoformat(),
        "last_used_at": row.last_used_at.isoformat() if row.last_used_at else None,
    }


def _layers(rows: list[images.LayerFile]) -> list[dict[str, Any]]:
    return [
        {
            "position": row.position,
            "digest": row.digest,
            "diff_id": row.diff_id,
            "media_type": row.media_type,
            "size": row.size_bytes,
            "path": row.path,
        }
        for row in rows
    ]


def _print(image: dict[str, Any]) -> None:
    for key, value in image.items():
        if value is not None and key != "layers":
            click.echo(f"{key:<14} {value}")
    print_table(
        ("", "size", "path", "media type"),
        [
            (str(layer["position"]), decimal(layer["size"]), layer["path"], layer["media_type"])
            for layer in image["layers"]
        ],
    )

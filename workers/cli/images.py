"""`towline ls` and `towline inspect`: the images on the volume, and the files of an image."""

import json
from itertools import chain, islice
from typing import Any

import click
from rich.filesize import decimal

from shared.catalog.content import image_rows
from shared.catalog.database.catalog import Catalog
from shared.catalog.database.paging import pages
from shared.errors import InvalidArgument
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from workers.cli.fitting import (
    Column,
    cut_reference,
    short_digests,
    short_references,
    short_times,
)
from workers.cli.session import open_session
from workers.cli.tables import (
    limit_option,
    print_documents,
    print_fitted,
    print_remaining_count,
    print_table,
    shown_time,
)

COLUMNS = (
    Column("reference", short=short_references, cut=cut_reference, least=30),
    Column("platform", rank=3),
    Column("manifest", rank=2, short=short_digests),
    Column("size", rank=1, right=True),
    Column("pulled", rank=4, short=short_times),
)


@click.command("ls")
@limit_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def ls_command(limit: int, *, as_json: bool) -> None:
    """List the images on the volume, by name."""
    with open_session() as session:
        found = chain.from_iterable(pages(session.catalog, image_rows.listing))
        rows = islice(found, limit or None)
        if as_json:
            print_documents(map(_document, rows))
        else:
            print_fitted(COLUMNS, map(_row, rows))
        print_remaining_count(session.catalog, limit, image_rows.count, as_json=as_json)


@click.command("inspect")
@click.argument("reference")
@click.option("--platform", help="os/arch[/variant]. Default: all platforms on the volume.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def inspect_command(reference: str, platform: str | None, *, as_json: bool) -> None:
    """Show an image: its manifest, and its layers with their files.

    A REFERENCE with a digest shows the image of that digest, whichever tag it was pulled by.
    """
    parsed = Reference.parse(reference)
    name = str(parsed)
    wanted = str(Platform.parse(platform)) if platform else None
    with open_session() as session:
        with session.catalog.begin() as tx:
            rows = image_rows.of_reference(tx, name, wanted)
        if not rows and parsed.digest:
            rows = _of_digest(session.catalog, parsed, wanted)
        with session.catalog.begin() as tx:
            found = [
                _document(row)
                | {"layers": _layers(image_rows.layers_of(tx, row.reference, row.platform))}
                for row in rows
            ]
    if not found:
        missing = f"{name} for {wanted}" if wanted else name
        raise InvalidArgument(
            f"{missing} is not on the volume: `towline ls` lists the images that are."
        )
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for image in found:
        _print(image)


def _of_digest(
    catalog: Catalog, reference: Reference, platform: str | None
) -> list[image_rows.ImageRow]:
    """What a digest names in its repository under other references, by platform.

    The digest is that of a manifest or of an index. Of several references that name the same, the
    one with the wanted tag is preferred.
    """
    tagged = f"{reference.name}:{reference.tag}"
    found: dict[tuple[str, str], image_rows.ImageRow] = {}
    for row in chain.from_iterable(pages(catalog, image_rows.listing)):
        if reference.digest not in {row.manifest_digest, row.index_digest}:
            continue
        if platform not in {None, row.platform} or not _is_of(reference, row):
            continue
        key = (row.platform, row.manifest_digest)
        if key not in found or row.reference == tagged:
            found[key] = row
    return [found[key] for key in sorted(found)]


def _is_of(reference: Reference, row: image_rows.ImageRow) -> bool:
    return Reference.parse(row.reference).name == reference.name


def _row(row: image_rows.ImageRow) -> tuple[str, ...]:
    return (
        row.reference,
        row.platform,
        row.manifest_digest,
        decimal(row.size_bytes),
        shown_time(row.pulled_at),
    )


def _document(row: image_rows.ImageRow) -> dict[str, Any]:
    return {
        "reference": row.reference,
        "platform": row.platform,
        "manifest": row.manifest_digest,
        "index": row.index_digest,
        "size": row.size_bytes,
        "pulled_at": row.pulled_at.isoformat(),
        "last_used_at": row.last_used_at.isoformat() if row.last_used_at else None,
    }


def _layers(rows: list[image_rows.LayerFile]) -> list[dict[str, Any]]:
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

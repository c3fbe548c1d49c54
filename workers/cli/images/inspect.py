"""`towline inspect`: an image, and the files that make it up."""

import click
from rich.filesize import decimal

from shared.catalog.content import image_rows
from shared.catalog.content.image_rows import ImageRow, LayerFile
from shared.catalog.database.catalog import Connection
from shared.errors import InvalidArgument
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from workers.cli import documents
from workers.cli.display.tables import print_fields, print_table, shown_time
from workers.cli.options import json_option
from workers.cli.session import open_session


@click.command("inspect")
@click.argument("reference")
@click.option("--platform", help="os/arch[/variant]. Default: all platforms on the volume.")
@json_option
def inspect_command(reference: str, platform: str | None, *, as_json: bool) -> None:
    """Show an image: its manifest, and its layers with their files.

    A REFERENCE with a digest shows the image of that digest, whichever tag it was pulled by.
    """
    parsed = Reference.parse(reference)
    wanted = str(Platform.parse(platform)) if platform else None
    with open_session() as session, session.catalog.begin() as tx:
        rows = image_rows.of_reference(tx, str(parsed), wanted)
        if not rows and parsed.digest:
            rows = _of_digest(tx, parsed, wanted)
        found = [(row, image_rows.layers_of(tx, row.reference, row.platform)) for row in rows]
    if not found:
        missing = f"{parsed} for {wanted}" if wanted else str(parsed)
        raise InvalidArgument(
            f"{missing} is not on the volume: `towline ls` lists the images that are."
        )
    if as_json:
        documents.print_items(documents.image_with_layers(*image) for image in found)
        return
    for row, layers in found:
        _print(row, layers)


def _of_digest(tx: Connection, reference: Reference, platform: str | None) -> list[ImageRow]:
    """What a digest names in its repository under other references, by platform.

    The digest is that of a manifest or of an index. Of several references that name the same, the
    one with the wanted tag is preferred.
    """
    tagged = f"{reference.name}:{reference.tag}"
    found: dict[tuple[str, str], ImageRow] = {}
    for row in image_rows.of_digest(tx, str(reference.digest)):
        if (
            platform in {None, row.platform}
            and Reference.parse(row.reference).name == reference.name
        ):
            key = (row.platform, row.manifest_digest)
            if key not in found or row.reference == tagged:
                found[key] = row
    return [found[key] for key in sorted(found)]


def _print(row: ImageRow, layers: list[LayerFile]) -> None:
    print_fields(
        ("reference", row.reference),
        ("platform", row.platform),
        ("manifest", row.manifest_digest),
        ("index", row.index_digest),
        ("size", decimal(row.size_bytes)),
        ("pulled", shown_time(row.pulled_at)),
        ("last used", shown_time(row.last_used_at) if row.last_used_at else None),
    )
    print_table(
        ("", "size", "path", "media type"),
        [
            (str(layer.position), decimal(layer.size_bytes), layer.path, layer.media_type)
            for layer in layers
        ],
    )

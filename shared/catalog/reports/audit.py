"""What the catalog says is on the volume, page by page, for a check that reads all of it.

Each page is a query of its own, and further queries ask about the rows of that page by key. So
checking a catalog of any size needs little memory. Statements over blobs and images are short;
those over the layers of all pulls may take long, and get an hour.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select, text

from shared.catalog.content import image_rows
from shared.catalog.content.image_rows import ImageRow
from shared.catalog.database.catalog import Connection
from shared.catalog.database.paging import first_page
from shared.catalog.model.content_tables import blobs
from shared.catalog.model.pull_tables import pull_layers
from shared.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Fetched:
    """How much of a layer came over the network from a registry, for all pulls together.

    `size_bytes`: the largest size that any of the pulls claims. `starts`: attempts.
    """

    registry: str
    digest: str
    size_bytes: int
    bytes_fetched: int
    starts: int


@dataclass(frozen=True, slots=True)
class MissingBlob:
    """A blob that an image points at and that is not stored."""

    reference: str
    platform: str
    digest: str


def stored_digests(tx: Connection, after: Digest | None = None) -> list[Digest]:
    """Return a page of the stored blobs, ordered by digest, starting after `after`."""
    statement = (
        select(blobs.c.digest)
        .where(blobs.c.stored_at.is_not(None), blobs.c.digest > str(after or ""))
        .order_by(blobs.c.digest)
    )
    return [Digest.parse(digest) for digest in tx.execute(first_page(statement)).scalars()]


# A lateral subquery, so that each table is read by its index for each manifest of the page.
_UNBACKED = text("""
    SELECT named.reference, named.platform, part.digest
    FROM unnest(CAST(:references AS text[]), CAST(:platforms AS text[]),
        CAST(:manifests AS text[])) AS named (reference, platform, manifest)
    JOIN manifests ON manifests.digest = named.manifest
    CROSS JOIN LATERAL (
        SELECT manifests.digest
        UNION SELECT configs.digest FROM configs WHERE configs.id = manifests.config_id
        UNION SELECT layers.digest FROM manifest_layers
            JOIN layers ON layers.id = manifest_layers.layer_id
            WHERE manifest_layers.manifest_id = manifests.id
    ) AS part
    LEFT JOIN blobs ON blobs.digest = part.digest
    WHERE blobs.stored_at IS NULL ORDER BY 1, 2, 3
""")


def missing_blobs(tx: Connection, page: Sequence[ImageRow]) -> list[MissingBlob]:
    """Return the blobs of these images that are not stored: manifest, config and layers."""
    return [MissingBlob(**row._mapping) for row in tx.execute(_UNBACKED, image_rows.names(page))]


def pulled_digests(tx: Connection, after: str | None = None) -> list[str]:
    """Return a page of the layers that any pull has listed, by digest, starting after `after`."""
    _allow_long_statements(tx)
    statement = (
        select(pull_layers.c.digest)
        .distinct()
        .where(pull_layers.c.digest > (after or ""))
        .order_by(pull_layers.c.digest)
    )
    return list(tx.execute(first_page(statement)).scalars())


_FETCHED = text("""
    SELECT pulls.registry, pull_layers.digest, max(pull_layers.size_bytes) AS size_bytes,
        sum(pull_layers.bytes_fetched)::bigint AS bytes_fetched,
        sum(pull_layers.attempts)::bigint AS starts
    FROM pull_layers JOIN pulls ON pulls.id = pull_layers.pull_id
    WHERE pull_layers.digest = ANY(CAST(:digests AS text[]))
      AND (pull_layers.bytes_fetched > 0 OR pull_layers.attempts > 0)
    GROUP BY 1, 2 HAVING sum(pull_layers.bytes_fetched) > 0 ORDER BY 2, 1
""")


def fetched(tx: Connection, digests: Sequence[str]) -> list[Fetched]:
    """Return those of these layers that came over the network, by digest and registry."""
    _allow_long_statements(tx)
    rows = tx.execute(_FETCHED, {"digests": list(digests)})
    return [Fetched(**row._mapping) for row in rows]


def _allow_long_statements(tx: Connection) -> None:
    # Millions of pulls may have listed a base layer, and all of their rows are read.
    tx.execute(text("SET LOCAL statement_timeout = '1h'"))

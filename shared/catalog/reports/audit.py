"""What the catalog says is on the volume, page by page, for a check that reads all of it.

Each page is a query of its own, and further queries ask about the rows of that page by key. So
checking a catalog of any size needs little memory. Statements over blobs and images are short;
those over the layers of all pulls may take long, and get an hour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Select,
    bindparam,
    cast,
    func,
    or_,
    select,
    text,
    true,
    union,
)

from shared.catalog.content import image_rows
from shared.catalog.content.image_rows import ImageRow
from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import constant, is_one_of
from shared.catalog.database.paging import first_page
from shared.catalog.model.content_tables import Blobs, Configs, Layers, ManifestLayers, Manifests
from shared.catalog.model.predicates import is_missing, is_stored
from shared.catalog.model.pull_tables import PullLayers, Pulls
from shared.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Fetched:
    """How many bytes of a layer came over the network from a registry, for all pulls together.

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


_STORED = (
    select(Blobs.digest)
    .where(is_stored(Blobs), Blobs.digest > bindparam("after"))
    .order_by(Blobs.digest)
)


def stored_digests(tx: Connection, after: Digest | None = None) -> list[Digest]:
    """Return a page of the stored blobs, ordered by digest, starting after `after`."""
    page = tx.execute(first_page(_STORED), {"after": str(after or "")})
    return [Digest.parse(digest) for digest in page.scalars()]


def _missing_blobs() -> Select[Any]:
    named = image_rows.NAMED
    # A lateral subquery, so that each table is read by its index for each manifest of the page.
    part = union(
        select(Manifests.digest).correlate(Manifests),
        select(Configs.digest).where(Configs.id == Manifests.config_id).correlate(Manifests),
        select(Layers.digest)
        .join(ManifestLayers, ManifestLayers.layer_id == Layers.id)
        .where(ManifestLayers.manifest_id == Manifests.id)
        .correlate(Manifests),
    ).lateral("part")
    return (
        select(named.c.reference, named.c.platform, part.c.digest)
        .select_from(named)
        .join(Manifests, Manifests.digest == named.c.manifest)
        .join(part, true())
        .outerjoin(Blobs, Blobs.digest == part.c.digest)
        .where(is_missing(Blobs))
        .order_by(named.c.reference, named.c.platform, part.c.digest)
    )


_MISSING_BLOBS = _missing_blobs()


def missing_blobs(tx: Connection, page: Sequence[ImageRow]) -> list[MissingBlob]:
    """Return the blobs of these images that are not stored: manifest, config and layers."""
    return [MissingBlob(*row) for row in tx.execute(_MISSING_BLOBS, image_rows.names(page))]


_PULLED = (
    select(PullLayers.digest)
    .distinct()
    .where(PullLayers.digest > bindparam("after"))
    .order_by(PullLayers.digest)
)


def pulled_digests(tx: Connection, after: str | None = None) -> list[str]:
    """Return a page of the layers that any pull has listed, by digest, starting after `after`."""
    _allow_long_statements(tx)
    return list(tx.execute(first_page(_PULLED), {"after": after or ""}).scalars())


_bytes_fetched = func.sum(PullLayers.bytes_fetched)
_FETCHED = (
    select(
        Pulls.registry,
        PullLayers.digest,
        func.max(PullLayers.size_bytes).label("size_bytes"),
        cast(_bytes_fetched, BigInteger).label("bytes_fetched"),
        cast(func.sum(PullLayers.attempts), BigInteger).label("starts"),
    )
    .join_from(PullLayers, Pulls, Pulls.id == PullLayers.pull_id)
    .where(
        is_one_of(PullLayers.digest, "digests"),
        or_(PullLayers.bytes_fetched > constant(0), PullLayers.attempts > constant(0)),
    )
    .group_by(Pulls.registry, PullLayers.digest)
    .having(_bytes_fetched > constant(0))
    .order_by(PullLayers.digest, Pulls.registry)
)


def fetched(tx: Connection, digests: Sequence[str]) -> list[Fetched]:
    """Return those of these layers that came over the network, by digest and registry."""
    _allow_long_statements(tx)
    return [Fetched(**row._mapping) for row in tx.execute(_FETCHED, {"digests": list(digests)})]


def _allow_long_statements(tx: Connection) -> None:
    # Millions of pulls may have listed a base layer, and all of their rows are read.
    tx.execute(text("SET LOCAL statement_timeout = '1h'"))

"""What the catalog says there is, for whoever compares it with what is there. Reads only."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from shared.catalog.database import Catalog, Connection
from shared.oci.digest import Digest

_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class Server:
    """The database server: its version (170002 is 17.2), its clock, and whether it takes no writes:
    a standby, or a primary that is told so.
    """

    version_number: int
    now: datetime
    read_only: bool


@dataclass(frozen=True, slots=True)
class Unattended:
    """An open pull that nobody is at work on, and that has no reason with a time to come."""

    pull_id: str
    reference: str
    state: str
    generation: int
    digests: frozenset[str]


@dataclass(frozen=True, slots=True)
class Failures:
    """So many pulls failed with this class, and nobody has tried them again."""

    error_class: str
    count: int
    newest_message: str


@dataclass(frozen=True, slots=True)
class ImageName:
    """What a layout should name."""

    reference: str
    platform: str
    manifest_digest: str


@dataclass(frozen=True, slots=True)
class Fetched:
    """A layer that came over the network: how many bytes, in how many starts, of how many."""

    registry: str
    digest: str
    size_bytes: int
    bytes_fetched: int
    starts: int


def server(tx: Connection) -> Server:
    """Which server this is, what time it has, and whether it can be written to."""
    row = tx.execute(
        text(
            "SELECT current_setting('server_version_num')::int, clock_timestamp(), "
            "current_setting('transaction_read_only')::boolean"
        )
    ).one()
    return Server(*row)


# A reason that ran out a moment ago is about to be looked at.
_UNATTENDED = """
    SELECT p.id, p.reference, p.state, p.generation, coalesce(array_agg(pull_layers.digest)
        FILTER (WHERE pull_layers.digest IS NOT NULL), '{}') AS digests
    FROM pulls p LEFT JOIN pull_layers ON pull_layers.pull_id = p.id
    WHERE p.state NOT IN ('complete', 'failed', 'cancelled')
      AND coalesce((p.waiting_for->>'until')::timestamptz
          < clock_timestamp() - make_interval(secs => :grace), true)
      AND NOT EXISTS (SELECT FROM step_leases WHERE step_leases.name = 'pull/' || p.id
          AND step_leases.expires_at > clock_timestamp())
      AND NOT EXISTS (SELECT FROM pull_layers mine JOIN leases ON leases.digest = mine.digest
          AND leases.registry = p.registry AND leases.owner IS NOT NULL
          AND leases.expires_at > clock_timestamp()
          WHERE mine.pull_id = p.id)
    GROUP BY p.id ORDER BY p.created_at LIMIT :limit
"""


def unattended(tx: Connection, grace_seconds: float, limit: int = 1000) -> list[Unattended]:
    """Open pulls without a living lease and without a reason that holds; oldest first."""
    rows = tx.execute(text(_UNATTENDED), {"grace": grace_seconds, "limit": limit})
    return [
        Unattended(row.id, row.reference, row.state, row.generation, frozenset(row.digests))
        for row in rows
    ]


def unanswered(tx: Connection, seconds: float) -> list[str]:
    """Pulls that ended so long ago, and whoever waits for them was not told."""
    statement = text(
        """
        SELECT id FROM pulls WHERE state IN ('complete', 'failed', 'cancelled')
        AND answered_at IS NULL
        AND finished_at < clock_timestamp() - make_interval(secs => :seconds)
        ORDER BY finished_at
        """
    )
    return list(tx.execute(statement, {"seconds": seconds}).scalars())


def failures(tx: Connection) -> list[Failures]:
    """Failed pulls by class, the most frequent first."""
    rows = tx.execute(
        text(
            """
            SELECT p.error_class, count(*) AS number,
                (array_agg(p.error_message ORDER BY p.finished_at DESC))[1] AS newest_message
            FROM pulls p WHERE p.state = 'failed'
              AND NOT EXISTS (SELECT FROM pulls again WHERE again.retry_of = p.id)
            GROUP BY p.error_class ORDER BY count(*) DESC, p.error_class
            """
        )
    )
    return [Failures(row.error_class or "", row.number, row.newest_message or "") for row in rows]


def count_open(tx: Connection) -> int:
    """How many pulls have not ended."""
    statement = text(
        "SELECT count(*) FROM pulls WHERE state NOT IN ('complete', 'failed', 'cancelled')"
    )
    return int(tx.execute(statement).scalar_one())


def stored_blobs(catalog: Catalog) -> Iterator[tuple[str, int]]:
    """Digest and size in bytes of every blob that is on the volume, in pages of one look each."""
    statement = text(
        """
        SELECT digest, size_bytes FROM blobs WHERE stored_at IS NOT NULL AND digest > :after
        ORDER BY digest LIMIT :page
        """
    )
    after = ""
    while True:
        with catalog.begin() as tx:
            rows = tx.execute(statement, {"after": after, "page": _PAGE}).all()
        yield from ((row.digest, row.size_bytes) for row in rows)
        if len(rows) < _PAGE:
            return
        after = rows[-1].digest


def leased(tx: Connection) -> set[Digest]:
    """The blobs that somebody is at work on, or was, and whose ingests are of use."""
    return {
        Digest.parse(digest) for digest in tx.execute(text("SELECT digest FROM leases")).scalars()
    }


def is_resolving(tx: Connection) -> bool:
    """Whether anybody resolves or links a pull, and may be writing a document."""
    statement = text(
        """
        SELECT EXISTS (SELECT FROM step_leases WHERE name LIKE 'pull/%'
                       AND expires_at > clock_timestamp())
        """
    )
    return bool(tx.execute(statement).scalar_one())


def image_names(tx: Connection) -> list[ImageName]:
    """Every image, and the manifest that its layout should name."""
    rows = tx.execute(
        text(
            """
            SELECT images.reference, images.platform, manifests.digest AS manifest_digest
            FROM images JOIN manifests ON manifests.id = images.manifest_id
            ORDER BY images.reference, images.platform
            """
        )
    )
    return [ImageName(**row._mapping) for row in rows]


def unbacked_images(tx: Connection) -> list[tuple[str, str, str]]:
    """Reference, platform, digest: an image that points at a blob that is not stored."""
    rows = tx.execute(
        text(
            """
            SELECT named.reference, named.platform, named.digest FROM (
                SELECT images.reference, images.platform, manifests.digest FROM images
                JOIN manifests ON manifests.id = images.manifest_id
                UNION SELECT images.reference, images.platform, configs.digest FROM images
                JOIN manifests ON manifests.id = images.manifest_id
                JOIN configs ON configs.id = manifests.config_id
                UNION SELECT reference, platform, digest FROM image_layers
            ) AS named LEFT JOIN blobs ON blobs.digest = named.digest
            WHERE blobs.stored_at IS NULL ORDER BY 1, 2, 3
            """
        )
    )
    return [(row.reference, row.platform, row.digest) for row in rows]


def fetched(tx: Connection) -> list[Fetched]:
    """Every layer that came over the network, by registry and digest."""
    rows = tx.execute(
        text(
            """
            SELECT pulls.registry, pull_layers.digest, max(pull_layers.size_bytes) AS size_bytes,
                sum(pull_layers.bytes_fetched)::bigint AS bytes_fetched,
                sum(pull_layers.attempts)::bigint AS starts
            FROM pull_layers JOIN pulls ON pulls.id = pull_layers.pull_id
            GROUP BY 1, 2 HAVING sum(pull_layers.bytes_fetched) > 0 ORDER BY 1, 2
            """
        )
    )
    return [Fetched(**row._mapping) for row in rows]

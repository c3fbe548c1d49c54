"""A catalog that has grown for a year, made by SQL: most of its rows belong to ended pulls."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

TAG = "registry.example/team0/moving:1"
# The id of a pull that is complete at every size, and the class that few pulls failed with.
PULL = str(UUID(hashlib.md5(b"pull 1").hexdigest()))
RARE_FAILURE = "RateLimited"
LAYERS = 5
_BASES = 20
_NAMINGS = 50

# Tables that grow with every pull. A query that reads one of them completely gets slower over time.
GROWING = frozenset(
    {
        "blobs",
        "configs",
        "image_history",
        "images",
        "index_manifests",
        "indexes",
        "layers",
        "leases",
        "manifest_layers",
        "manifests",
        "pull_layers",
        "pulls",
    }
)


@dataclass(frozen=True)
class Size:
    """How many rows to create. Each pull is of one of the images, and lists five layers, the lowest
    of which many images share.
    """

    pulls: int = 1_000_000
    images: int = 200_000

    @property
    def values(self) -> Mapping[str, int]:
        """The parameters of the statements."""
        return {"pulls": self.pulls, "images": self.images, "bases": _BASES, "namings": _NAMINGS}


_FUNCTIONS = """
    CREATE FUNCTION pg_temp.digest(name text) RETURNS text LANGUAGE sql AS
        $$ SELECT 'sha256:' || encode(sha256(convert_to(name, 'UTF8')), 'hex') $$;
    CREATE FUNCTION pg_temp.layer(image int, place int) RETURNS text LANGUAGE sql AS
        $$ SELECT pg_temp.digest(CASE place WHEN 0 THEN 'base ' || image % {bases}
            ELSE 'layer ' || image || ' ' || place END) $$;
    CREATE FUNCTION pg_temp.pull(number int) RETURNS text LANGUAGE sql AS
        $$ SELECT md5('pull ' || number)::uuid::text $$;
    CREATE FUNCTION pg_temp.reference(image int) RETURNS text LANGUAGE sql AS
        $$ SELECT CASE image WHEN 1 THEN 'registry.example/team0/moving:1'
            ELSE 'registry.example/team' || image % 500 || '/app' || image || ':1' END $$;
"""

# Of forty pulls two fail, of which one is retried, and one is cancelled.
_STATEMENTS = (
    """
    INSERT INTO blobs (digest, size_bytes, stored_at, verified_at)
    SELECT pg_temp.digest(kind || n), 1000, now(), now()
    FROM generate_series(1, {images}) AS n, unnest(ARRAY['manifest ', 'config ']) AS kind
    """,
    """
    INSERT INTO blobs (digest, size_bytes, stored_at, verified_at)
    SELECT pg_temp.layer(n, 0), 1000000, now(), now() FROM generate_series(0, {bases} - 1) AS n
    UNION ALL SELECT pg_temp.layer(n, place), 1000000, now(), now()
    FROM generate_series(1, {images}) AS n, generate_series(1, 4) AS place
    """,
    """
    INSERT INTO layers (id, digest, size_bytes)
    SELECT n + 1, pg_temp.layer(n, 0), 1000000 FROM generate_series(0, {bases} - 1) AS n
    UNION ALL SELECT {bases} + (n - 1) * 4 + place, pg_temp.layer(n, place), 1000000
    FROM generate_series(1, {images}) AS n, generate_series(1, 4) AS place
    """,
    """
    INSERT INTO configs (id, digest, size_bytes, media_type, os, architecture, rootfs_type)
    SELECT n, pg_temp.digest('config ' || n), 1000, 'application/vnd.oci.image.config.v1+json',
        'linux', 'amd64', 'layers' FROM generate_series(1, {images}) AS n
    """,
    """
    INSERT INTO manifests (id, digest, media_type, size_bytes, schema_version, config_id,
        total_size_bytes, document)
    SELECT n, pg_temp.digest('manifest ' || n), 'application/vnd.oci.image.manifest.v1+json', 1000,
        2, n, 5001000, jsonb_build_object('schemaVersion', 2, 'layers', (
            SELECT jsonb_agg(jsonb_build_object('size', 1000000, 'digest', pg_temp.layer(n, place),
                'mediaType', 'application/vnd.oci.image.layer.v1.tar+gzip'))
            FROM generate_series(0, 4) AS place))
    FROM generate_series(1, {images}) AS n
    """,
    """
    INSERT INTO manifest_layers (manifest_id, position, layer_id, media_type)
    SELECT n, place, CASE place WHEN 0 THEN n % {bases} + 1 ELSE {bases} + (n - 1) * 4 + place END,
        'application/vnd.oci.image.layer.v1.tar+gzip'
    FROM generate_series(1, {images}) AS n, generate_series(0, 4) AS place
    """,
    """
    INSERT INTO images (reference, platform, manifest_id, size_bytes, resolved_at, last_used_at)
    SELECT pg_temp.reference(n), 'linux/amd64', n, 5001000, now(), now()
    FROM generate_series(1, {images}) AS n
    """,
    """
    INSERT INTO image_history (reference, platform, manifest_digest, first_seen_at)
    SELECT pg_temp.reference(n), 'linux/amd64', pg_temp.digest('manifest ' || n), now()
    FROM generate_series(1, {images}) AS n
    UNION ALL SELECT pg_temp.reference(1), 'linux/amd64', pg_temp.digest('manifest ' || n),
        now() - make_interval(hours => n) FROM generate_series(2, {namings}) AS n
    """,
    """
    INSERT INTO pulls (id, reference, platform, state, registry, repository, requested_by, retry_of,
        generation, admitted_at, dispatched_at, manifest_digest, config_digest, bytes_total,
        bytes_done, error_class, error_message, attempts, created_at, resolved_at, started_at,
        finished_at, answered_at, receipt)
    SELECT pg_temp.pull(n), pg_temp.reference(image), 'linux/amd64', state, 'registry.example',
        'team' || image % 500 || '/app' || image, 'requester ' || n % 13,
        CASE WHEN n % 40 = 1 AND n > 1 THEN pg_temp.pull(n - 1) END, 2, began, began,
        pg_temp.digest('manifest ' || image), pg_temp.digest('config ' || image), 5000000,
        CASE state WHEN 'complete' THEN 5000000 ELSE 0 END,
        CASE state WHEN 'failed' THEN CASE WHEN n / 20 % 1000 = 1 THEN 'RateLimited'
                WHEN n % 3 = 0 THEN 'Forbidden' ELSE 'TlsFailed' END
            WHEN 'cancelled' THEN 'PullCancelled' END,
        CASE WHEN state <> 'complete' THEN 'The pull ended, as some do.' END, 1, began, began,
        began, began + interval '20 seconds', began + interval '20 seconds',
        CASE state WHEN 'complete' THEN jsonb_build_object('pull_id', pg_temp.pull(n),
            'reference', pg_temp.reference(image), 'platform', 'linux/amd64',
            'manifest', pg_temp.digest('manifest ' || image), 'bytes_total', 5000000,
            'config', pg_temp.digest('config ' || image), 'bytes_fetched', 0,
            'started_at', began, 'finished_at', began + interval '20 seconds', 'layers', (
                SELECT jsonb_agg(jsonb_build_object('position', place, 'size', 1000000,
                    'digest', pg_temp.layer(image, place), 'source', 'present', 'attempts', 0,
                    'bytes_fetched', 0, 'diff_id', pg_temp.layer(image, place)))
                FROM generate_series(0, 4) AS place)) END
    FROM generate_series(1, {pulls}) AS n, LATERAL (SELECT n % {images} + 1 AS image,
        now() - (365.0 * ({pulls} - n + 1) / {pulls}) * interval '1 day' AS began,
        CASE WHEN n % 20 = 0 THEN 'failed' WHEN n % 40 = 7 THEN 'cancelled' ELSE 'complete' END
            AS state) AS one
    """,
    """
    INSERT INTO pull_layers (pull_id, digest, position, size_bytes, media_type, source,
        bytes_fetched, attempts, generation)
    SELECT pg_temp.pull(n), pg_temp.layer(n % {images} + 1, place), place, 1000000,
        'application/vnd.oci.image.layer.v1.tar+gzip', 'present', 0, 0, 1
    FROM generate_series(1, {pulls}) AS n, generate_series(0, 4) AS place
    """,
    """
    INSERT INTO leases (registry, digest, fence, expires_at, bytes_done, bytes_total)
    SELECT 'registry.example', pg_temp.digest('given up ' || n), nextval('fences'),
        now() - interval '1 day', 1000, 1000000 FROM generate_series(1, {images} / 10) AS n
    """,
)
_SEQUENCES = ("configs", "layers", "manifests")


def grow(url: str, size: Size) -> None:
    """Fill a migrated database, and let PostgreSQL analyse it."""
    with psycopg.connect(url, autocommit=True) as connection:
        # No triggers run, not even those of foreign keys: the rows are valid as they are.
        connection.execute("SET session_replication_role = replica")
        connection.execute("SET maintenance_work_mem = '512MB'")
        with _without_indexes(connection):
            for statement in (*_FUNCTIONS.strip().split(";\n"), *_STATEMENTS):
                connection.execute(_filled(statement, size))
        for table in _SEQUENCES:
            connection.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"
            )
        connection.execute("VACUUM (ANALYZE)")


def _filled(statement: str, size: Size) -> Any:
    return sql.SQL(re.sub(r"\{(\w+)\}", lambda name: str(size.values[name[1]]), statement))


@contextmanager
def _without_indexes(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Drop the indexes that no constraint needs, and create them at the end, which takes a fraction
    of the time.
    """
    found = connection.execute(
        """
        SELECT indexname, indexdef FROM pg_indexes
        WHERE schemaname = 'public' AND tablename = ANY(%s)
          AND indexname NOT IN (SELECT conname FROM pg_constraint)
        """,
        [sorted(GROWING)],
    ).fetchall()
    for name, _ in found:
        connection.execute(f'DROP INDEX "{name}"')
    yield
    for _, definition in found:
        connection.execute(definition)

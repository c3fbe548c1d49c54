"""The plans of the statements that run most often: by which index each large table is read.

A year of ended pulls is in the catalog, thousands of pulls are being fetched, and thousands wait.
The plans must not depend on whether PostgreSQL's statistics know of the open pulls: it analyses a
table every few minutes at most. Plans are logged as the catalog's own sessions execute them.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from shared.catalog.admission import admission, recording, waiting_reasons
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.fleet import due_layers, due_pulls, fleet_slots
from shared.catalog.layers import (
    fetch_state,
    layer_slots,
    lease_reports,
    leases,
    messages,
    storing,
    wanted_downloads,
)
from shared.catalog.layers.lease_reports import Report
from shared.catalog.layers.leases import Lease
from shared.catalog.layers.storing import StoredLayer
from shared.catalog.model.pull_values import NewPull
from shared.catalog.pulls import known_image, lifecycle, start
from shared.catalog.reports import doctor_checks
from tests.builders.grown_catalog import GROWING, TAG, Size, grow
from tests.builders.images import PLATFORM, of
from tests.support.services import fresh_database, with_driver
from workers.embedded.servers import PostgresServer

LOGGED = (
    "log_min_duration = 0",
    "log_level = notice",
    "log_format = json",
    "log_analyze = on",
    "log_timing = off",
)
MOST_ROWS = 3000

HOST = "registry.example"
# No image of this catalog has an index.
LARGE = GROWING - {"indexes", "index_manifests"}
# Pulls of three hundred images are fetched, two of each; one of their layers is in all images.
OPEN = [
    """
    INSERT INTO pulls (id, reference, platform, state, registry, repository, requested_by,
        generation, admitted_at, dispatched_at, manifest_digest)
    SELECT 'fetching ' || n, 'registry.example/team/app' || n % 300 || ':1', 'linux/amd64',
        'fetching', 'registry.example', 'team/app' || n % 300, 'requester ' || n % 7, 1, now(),
        now(), 'manifest ' || n % 300
    FROM generate_series(1, 600) AS n
    """,
    """
    INSERT INTO blobs (digest)
    SELECT 'sha256:' || encode(sha256(convert_to(name, 'UTF8')), 'hex')
    FROM (SELECT 'base' AS name UNION SELECT 'layer ' || n FROM generate_series(1, 600) AS n) AS x
    """,
    """
    INSERT INTO pull_layers (pull_id, digest, position, size_bytes, media_type, generation,
        dispatched_at, has_message)
    SELECT 'fetching ' || n, 'sha256:' || encode(sha256(convert_to(name, 'UTF8')), 'hex'),
        position, 100, 'application/vnd.oci.image.layer.v1.tar+gzip', 1, now(), n <= 300
    FROM generate_series(1, 600) AS n, LATERAL (VALUES
        (0, 'base'), (1, 'layer ' || n % 300), (2, 'layer ' || n % 300 + 300)
    ) AS layer (position, name)
    """,
    """
    INSERT INTO leases (registry, digest, owner, pull_id, fence, expires_at, bytes_total)
    SELECT 'registry.example', 'sha256:' || encode(sha256(convert_to('layer ' || n, 'UTF8')),
        'hex'), 'worker ' || n % 9, 'fetching ' || n, nextval('fences'),
        now() + interval '1 minute', 100
    FROM generate_series(1, 200) AS n
    """,
    """
    INSERT INTO leases (registry, digest, fence, expires_at, bytes_total)
    SELECT 'registry.example', 'sha256:' || n, nextval('fences'), now() - interval '1 hour', 100
    FROM generate_series(1, 20000) AS n
    """,
    """
    INSERT INTO blobs (digest, size_bytes, stored_at)
    SELECT 'sha256:' || n, 100, now() FROM generate_series(1, 100000) AS n
    """,
    """
    INSERT INTO pulls (id, reference, platform, priority, registry, repository, requested_by)
    SELECT 'waiting ' || n, 'registry.example/team/app' || n || ':1', 'linux/amd64', n % 10,
        'registry.example', 'team/app' || n, 'requester ' || n % 7
    FROM generate_series(1, 2000) AS n
    """,
]
NO_AUTOVACUUM = "ALTER TABLE {} SET (autovacuum_enabled = false)"


@pytest.fixture(scope="module", params=["analysed", "outdated"])
def filled(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, migrated_template: str
) -> Iterator[Catalog]:
    """A catalog whose statistics are up to date, or know of ended pulls only."""
    with fresh_database(postgres_server, migrated_template) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            for table in sorted(GROWING):
                connection.execute(NO_AUTOVACUUM.format(table).encode())
        grow(url, Size(pulls=12_000, images=4_000))
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in OPEN:
                connection.execute(statement.encode())
            if request.param == "analysed":
                connection.execute("ANALYZE")
        catalog = Catalog(with_driver(url))
        with catalog.begin() as tx:
            fleet_slots.count_slots(tx, 64, 64)
        yield catalog
        catalog.close()


@pytest.fixture
def tx(filled: Catalog) -> Iterator[Connection]:
    """A transaction that leaves nothing behind."""
    with filled.begin() as tx:
        yield tx
        tx.rollback()


@dataclass(frozen=True)
class Step:
    """A step of a plan that reads a large table, and how many of its rows, over all loops."""

    table: str
    index: str | None
    rows: int


def steps_of(tx: Connection, ask: Callable[[Connection], object]) -> list[Step]:
    """The steps of the statements that this runs."""
    session: Any = tx.connection.dbapi_connection
    plans: list[Mapping[str, Any]] = []

    def keep(notice: psycopg.errors.Diagnostic) -> None:
        _, _, document = (notice.message_primary or "").partition("plan:\n")
        if document:
            plans.append(json.loads(document)["Plan"])

    session.execute("LOAD 'auto_explain'")
    for setting in LOGGED:
        session.execute(f"SET LOCAL auto_explain.{setting}")
    session.add_notice_handler(keep)
    try:
        ask(tx)
        # A plan is logged when the next statement begins.
        session.execute("SET LOCAL auto_explain.log_min_duration = -1")
    finally:
        session.remove_notice_handler(keep)
    return [step for plan in plans for step in below(plan)]


def below(node: Mapping[str, Any]) -> Iterator[Step]:
    """The steps of a plan from this one on. Writes read nothing."""
    if node.get("Relation Name") in LARGE and node["Node Type"] != "ModifyTable":
        rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        index = node.get("Index Name")
        yield Step(node["Relation Name"], index, round(rows * node["Actual Loops"]))
    for child in node.get("Plans", ()):
        yield from below(child)


PULL, LAYER, OTHER = "fetching 7", of("layer 7"), of("layer 307")
PAGE = [f"fetching {number}" for number in range(1, 401)]


def take(tx: Connection) -> Lease:
    lease = leases.take(
        tx, HOST, OTHER, owner="me", pull_id=PULL, bytes_total=100, lease_seconds=30
    )
    assert isinstance(lease, Lease)
    return lease


def renew(tx: Connection) -> object:
    return lease_reports.renew(tx, [Report(HOST, OTHER, take(tx).fence, 50, True)], 30)


def begin(tx: Connection) -> object:
    return start.start_resolving(
        tx, "waiting 7", owner="me", lease_seconds=30, platform="linux/amd64"
    )


def explain(tx: Connection) -> None:
    waiting_reasons.refresh(tx, PAGE, no_pull_worker=False, no_layer_worker=False)


PER_PULL: dict[str, Callable[[Connection], object]] = {
    "record": lambda tx: recording.arrive(tx, NewPull("new", TAG, None, registry=HOST), PLATFORM),
    "admit": admission.admit,
    "begin": begin,
    "known image": lambda tx: known_image.known(tx, TAG, "linux/amd64"),
    "fan out": lambda tx: messages.send_or_follow(tx, PULL, [of("base"), LAYER, OTHER]),
}
PER_LAYER: dict[str, Callable[[Connection], object]] = {
    "load": lambda tx: fetch_state.load(tx, PULL, LAYER),
    "slot": lambda tx: layer_slots.may_take_slot(tx, HOST, LAYER, 8, 4),
    "take": take,
    "store": lambda tx: storing.store_layers(tx, [StoredLayer(PULL, LAYER, 100, "network")]),
    "find whole pulls": lambda tx: storing.find_whole_pulls(tx, [LAYER], PULL),
    "dispatch": lambda tx: messages.dispatch(tx, PULL, LAYER),
}
PER_HEARTBEAT: dict[str, Callable[[Connection], object]] = {
    "renew": renew,
    "judge": lambda tx: wanted_downloads.judge_downloads(tx, [(HOST, LAYER, 1, PULL)]),
    "sum up": lambda tx: lifecycle.refresh_bytes_done(tx, PULL, HOST),
}
PER_ROUND: dict[str, Callable[[Connection], object]] = {
    "due layers": lambda tx: due_layers.layers(tx, PAGE, 30),
    "whole pulls": lambda tx: due_pulls.whole(tx, PAGE),
    "coordinators": lambda tx: due_pulls.coordinators(tx, PAGE),
    "reasons": explain,
}
PER_COMMAND: dict[str, Callable[[Connection], object]] = {
    "unattended": lambda tx: doctor_checks.unattended(tx, 10),
}
STATEMENTS = PER_PULL | PER_LAYER | PER_HEARTBEAT | PER_ROUND | PER_COMMAND

BLOB = {"blobs": {"blobs_digest_key"}}
LEASE = {"leases": {"leases_digest_idx", "leases_pkey"}}
OF_PULL = {"pulls": {"pulls_pkey"}, "pull_layers": {"pull_layers_pkey"}}
SENT = {"pulls": {"pulls_pkey"}, "pull_layers": {"pull_layers_pkey", "pull_layers_message_idx"}}
MESSAGES = {**BLOB, "pull_layers": {"pull_layers_message_idx"}}
# The pulls that want a layer are found by the layer, or among the open pulls if those are few.
WANTED = {"pull_layers_pkey", "pull_layers_message_idx", "pull_layers_digest_idx"}
WANTING = {"pulls": {"pulls_pkey", "pulls_open_idx"}, "pull_layers": WANTED}
OPEN_PULLS = {"pulls_pkey", "pulls_open_idx", "pulls_under_way_idx"}
LINE = {"pulls_waiting_idx", "pulls_waiting_by_requester_idx", "pulls_waiting_by_age_idx"}
IMAGE = {"images": {"images_reference_platform_key"}}
LAYERS = {"manifest_layers": {"manifest_layers_pkey"}, "layers": {"layers_pkey"}}

# By statement and table, the indexes that the table may be read by.
INDEXES: dict[str, Mapping[str, set[str]]] = {
    "record": {**MESSAGES, **IMAGE, **LAYERS, "pulls": OPEN_PULLS | LINE},
    "admit": {**MESSAGES, "pulls": OPEN_PULLS | LINE},
    "begin": {"pulls": {"pulls_pkey"}},
    "known image": {
        **BLOB,
        **IMAGE,
        **LAYERS,
        "manifests": {"manifests_pkey"},
        "configs": {"configs_pkey"},
    },
    "fan out": {**SENT, **LEASE},
    "load": {**SENT, **BLOB, **LEASE},
    # The leases that take a slot are those that are held.
    "slot": {**SENT, "leases": {"leases_held_idx"}},
    "take": {**BLOB, **LEASE},
    "store": {**LEASE, "pull_layers": {"pull_layers_pkey"}},
    "find whole pulls": {**BLOB, **WANTING},
    "dispatch": OF_PULL,
    "renew": {**BLOB, **LEASE},
    "judge": {**BLOB, **WANTING},
    "sum up": {**BLOB, **LEASE, **OF_PULL},
    "due layers": {**BLOB, **LEASE, **OF_PULL},
    "whole pulls": {**BLOB, **OF_PULL},
    "coordinators": {"pulls": {"pulls_pkey"}},
    "reasons": {**BLOB, **LEASE, **SENT},
    "unattended": {**LEASE, "pulls": {"pulls_open_idx"}, "pull_layers": {"pull_layers_pkey"}},
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_large_tables_are_read_by_these_indexes(tx: Connection, name: str) -> None:
    steps = steps_of(tx, STATEMENTS[name])
    assert {step.table for step in steps} == INDEXES[name].keys()
    assert [step for step in steps if step.index not in INDEXES[name][step.table]] == []
    # A step that reads the open pulls for each message would read hundreds of thousands.
    assert [step for step in steps if step.rows > MOST_ROWS] == []

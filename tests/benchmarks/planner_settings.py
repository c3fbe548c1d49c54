"""What each of the planner's settings buys: fixed work of the catalog, without one at a time.

    uv run python -m tests.benchmarks planner_settings [--pulls 2000] [--open 5000] [--rounds 5]

The catalog holds a history of a hundred thousand ended pulls. Autovacuum is off: the tables are
analysed once, while pulls are under way, or with `--outdated` never, so that the statistics know of
ended pulls only. Three kinds of work take turns over the settings:

- Pulls of three layers are recorded, admitted, planned, stored and linked by the catalog's
  functions, a hundred at a time.
- Rounds of a reconciler read the pulls that are under way, page by page.
- The window of admission is measured, after 700,000 messages have come and gone.

Recorded are the pages that PostgreSQL reads, and the processor time of PostgreSQL and of this
process, the least of the rounds. `as the driver does`: psycopg sends BEGIN before the first
statement, and SQLAlchemy checks each connection before that (`pool_pre_ping`).
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import psycopg
from sqlalchemy import create_engine

from shared.catalog.admission import admission, recording, waiting_reasons, window
from shared.catalog.content import image_links, layouts, stored_blobs
from shared.catalog.content.image_links import NewImage
from shared.catalog.database import catalog as sessions
from shared.catalog.database.catalog import Catalog
from shared.catalog.fleet import (
    due_layers,
    due_pulls,
    fleet_slots,
    late_pulls,
    round_pages,
    step_leases,
)
from shared.catalog.layers import fetch_state, leases, messages, pull_layers, storing
from shared.catalog.layers.storing import StoredLayer
from shared.catalog.model.pull_values import NewPull, PlannedLayer
from shared.catalog.pulls import finish, known_image, lifecycle, start
from shared.catalog.schema.migration import migrate
from shared.oci.manifest import layers_with_diff_ids
from tests.benchmarks.costs import cpu_seconds, parent
from tests.benchmarks.tables import Times, options_of, print_table, take_turns
from tests.builders import images
from tests.builders.grown_catalog import Size, grow
from tests.support.services import database_name, fresh_database, running_postgres, with_driver
from workers.embedded.servers import PostgresServer

_HOST, _PLATFORM, _LEASE_SECONDS = "registry.example", "linux/amd64", 30
_AT_ONCE = 100
_AS_SET = "all as set"
_DRIVERS_BEGIN = "BEGIN as the driver does"
_NAMES = (_AS_SET, *sessions._PLANNER_SETTINGS, _DRIVERS_BEGIN)
_KINDS = ("pulls", "rounds", "window")
_CLEAR = "UPDATE pull_layers SET has_message = false WHERE has_message"
_SEND = "UPDATE pull_layers SET has_message = true WHERE pull_id = ANY(%s)"
_SENT, _TIMES = [f"open {number}" for number in range(1, 2001)], 60
_PAGES = "SELECT blks_hit + blks_read FROM pg_stat_database WHERE datname = current_database()"
_UNDER_WAY = """
    INSERT INTO pulls (id, reference, platform, state, registry, repository, requested_by,
        generation, admitted_at, dispatched_at, manifest_digest)
    SELECT 'open ' || n, 'registry.example/team/app' || n % 500 || ':1', 'linux/amd64', 'fetching',
        'registry.example', 'team/app' || n % 500, 'requester ' || n % 7, 1, now(), now(),
        'manifest ' || n % 500
    FROM generate_series(1, {open}) AS n;
    INSERT INTO blobs (digest) SELECT 'sha256:' || encode(sha256(convert_to('open ' || n, 'UTF8')),
        'hex') FROM generate_series(0, 1499) AS n;
    INSERT INTO pull_layers (pull_id, digest, position, size_bytes, media_type, generation,
        dispatched_at, has_message)
    SELECT 'open ' || n, 'sha256:' || encode(sha256(convert_to('open ' || n % 500 + 500 * place,
        'UTF8')), 'hex'), place, 100, 'layer', 1, now(), n <= 2000
    FROM generate_series(1, {open}) AS n, generate_series(0, 2) AS place;
"""


@dataclass(frozen=True)
class Work:
    """What is done in a copy of the database `template`. `before` is not measured."""

    template: str
    do: Callable[[Catalog], None]
    before: Callable[[Catalog], None] = lambda _: None


def main() -> None:
    """Print the table."""
    parser = options_of(__doc__ or "")
    parser.add_argument("--pulls", type=int, default=2000, help="default: 2000")
    parser.add_argument("--open", type=int, default=5000, help="default: 5000")
    parser.add_argument("--history", type=int, default=100_000, help="default: 100000")
    parser.add_argument("--outdated", action="store_true", help="never analyse the open pulls")
    options = parser.parse_args()
    with running_postgres() as server, fresh_database(server) as template:
        _tell(server, "ALTER SYSTEM SET autovacuum = off", "SELECT pg_reload_conf()")
        migrate(with_driver(template))
        grow(template, Size(pulls=options.history, images=options.history // 5))
        with fresh_database(server, database_name(template)) as busy:
            with psycopg.connect(busy, autocommit=True) as connection:
                for statement in _UNDER_WAY.format(open=options.open).split(";"):
                    connection.execute(statement.encode())
                if not options.outdated:
                    connection.execute("ANALYZE")
            analyse = not options.outdated
            kinds = {
                "pulls": Work(template, partial(_pull, count=options.pulls, analyse=analyse)),
                "rounds": Work(busy, partial(_look, count=options.open)),
                "window": Work(busy, _measure_window, before=_send_again),
            }
            pages: Times = {}
            contenders = {
                (kind, name): partial(_measure, server, kind, work, name, pages)
                for name in _NAMES
                for kind, work in kinds.items()
            }
            for kind in kinds:
                # SQLAlchemy compiles each statement of a process once.
                contenders[kind, _AS_SET](0)
            seconds = take_turns(
                options.rounds, {_row(*key): contender for key, contender in contenders.items()}
            )
    _print(seconds, pages)


def _row(kind: str, name: str) -> str:
    return f"{kind}, {name}"


def _print(seconds: Times, pages: Times) -> None:
    def ratio(figures: Times, kind: str, name: str) -> str:
        return f"{min(figures[_row(kind, name)]) / min(figures[_row(kind, _AS_SET)]):.2f}"

    columns = [(figures, kind) for kind in _KINDS for figures in (seconds, pages)]
    print_table(
        [
            "left at its default",
            *(f"{kind}, {what}" for kind in _KINDS for what in ("time", "pages")),
        ],
        [[name, *(ratio(figures, kind, name) for figures, kind in columns)] for name in _NAMES],
    )


def _measure(
    server: PostgresServer,
    kind: str,
    work: Work,
    name: str,
    pages: Times,
    _number: int,
) -> float:
    """Processor seconds of the work in a copy of the database, without the setting `name`."""
    with (
        fresh_database(server, database_name(work.template)) as url,
        _without(name, url) as catalog,
    ):
        with catalog.begin() as tx:
            fleet_slots.count_slots(tx, 64, 64)
            session = tx.connection.dbapi_connection
            assert session is not None
            postmaster = parent(session.info.backend_pid)
        work.before(catalog)
        read, used = _pages_read(catalog), cpu_seconds(postmaster) + time.process_time()
        work.do(catalog)
        seconds = cpu_seconds(postmaster) + time.process_time() - used
        pages.setdefault(_row(kind, name), []).append(_pages_read(catalog) - read)
    return seconds


def _pages_read(catalog: Catalog) -> float:
    with catalog.begin() as tx:
        tx.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    with catalog.begin() as tx:
        return float(tx.exec_driver_sql(_PAGES).scalar_one())


@contextmanager
def _without(name: str, url: str) -> Iterator[Catalog]:
    """A catalog whose sessions lack a setting, or whose driver sends BEGIN."""
    with ExitStack() as stack:
        settings = stack.enter_context(patch.dict(sessions._PLANNER_SETTINGS))
        settings.pop(name, None)
        catalog = Catalog(with_driver(url), pool_size=1)
        stack.callback(catalog.close)
        if name == _DRIVERS_BEGIN:
            catalog._engine = create_engine(
                with_driver(url),
                pool_size=1,
                pool_pre_ping=True,
                hide_parameters=True,
                connect_args={
                    "prepare_threshold": sessions._PREPARED_AFTER,
                    "options": sessions._options(""),
                },
            )
        yield catalog


def _pull(catalog: Catalog, count: int, *, analyse: bool) -> None:
    """Complete `count` pulls of three layers. The base is common to ten images."""
    for first in range(0, count, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, count))
        wanted = {f"pull {n}": _image(n) for n in numbers}
        for number, pull_id in zip(numbers, wanted, strict=True):
            with catalog.begin() as tx:
                new = NewPull(
                    pull_id, _reference(number), _PLATFORM, registry=_HOST, repository="team/app"
                )
                recording.arrive(tx, new, _PLATFORM)
        with catalog.begin() as tx:
            admission.admit(tx)
        for pull_id, image in wanted.items():
            _plan(catalog, pull_id, image)
        if analyse and first == 0:
            with catalog.begin() as tx:
                tx.exec_driver_sql("ANALYZE")
        for pull_id, image in wanted.items():
            _fetch(catalog, pull_id, image)


def _image(number: int) -> images.Image:
    return images.image([f"base {number // 10}", f"middle {number}", f"top {number}"])


def _reference(number: int) -> str:
    return f"{_HOST}/team/app:{number}"


def _plan(catalog: Catalog, pull_id: str, image: images.Image) -> None:
    with catalog.begin() as tx:
        begun = start.start_resolving(
            tx, pull_id, owner="me", lease_seconds=_LEASE_SECONDS, platform=_PLATFORM
        )
        assert begun is not None
        known_image.known(tx, begun.pull.reference, _PLATFORM)
    digests = [layer.digest for layer in image.manifest.distinct_layers]
    with catalog.begin() as tx:
        lifecycle.lock(tx, pull_id)
        images.save(tx, image)
        stored = stored_blobs.expect_blobs(tx, digests)
        lifecycle.record_plan(
            tx,
            pull_id,
            manifest_digest=str(image.digest),
            index_digest=None,
            config_digest=str(image.manifest.config.digest),
            resolved_at=begun.now,
            layers=[
                PlannedLayer(layer.digest, layer.size, layer.media_type, ())
                for layer in image.manifest.distinct_layers
            ],
        )
        messages.send_or_follow(tx, pull_id, [digest for digest in digests if digest not in stored])
        lifecycle.start_fetching(tx, pull_id)
        step_leases.end(tx, begun.lease.fence)


def _fetch(catalog: Catalog, pull_id: str, image: images.Image) -> None:
    for layer in image.manifest.distinct_layers:
        with catalog.begin() as tx:
            fetch_state.load(tx, pull_id, layer.digest)
            leases.take(
                tx,
                _HOST,
                layer.digest,
                owner="me",
                pull_id=pull_id,
                bytes_total=layer.size,
                lease_seconds=_LEASE_SECONDS,
            )
            pull_layers.begin(tx, pull_id, layer.digest)
        with catalog.begin() as tx:
            lifecycle.refresh_bytes_done(tx, pull_id, _HOST)
        with catalog.begin() as tx:
            storing.store_layers(tx, [StoredLayer(pull_id, layer.digest, layer.size, "network")])
        with catalog.begin() as tx:
            whole = storing.find_whole_pulls(tx, [layer.digest], pull_id)
        if pull_id in whole:
            _link(catalog, pull_id, image)


def _link(catalog: Catalog, pull_id: str, image: images.Image) -> None:
    with catalog.begin() as tx:
        lifecycle.lock(tx, pull_id)
        image_links.link_layers(
            tx, image.digest, layers_with_diff_ids(image.manifest, image.config)
        )
        lifecycle.start_linking(tx, pull_id)
    with catalog.begin() as tx:
        pull = lifecycle.lock(tx, pull_id)
        assert pull is not None
        now = lifecycle.clock(tx)
        new = NewImage(pull.reference, _PLATFORM, str(image.digest), None, 1, now, is_tag=True)
        image_links.link(tx, new)
        pull_layers.of_pulls(tx, [pull_id], _HOST)
        finish.complete(tx, pull_id, {"pull_id": pull_id}, now)
    with catalog.begin() as tx:
        finish.mark_answered(tx, pull_id)


def _look(catalog: Catalog, count: int) -> None:
    """As many rounds of the reconciler as read all pulls under way once."""
    under_way, with_message = "", ("", "")
    for _ in range(0, count, round_pages.BATCH):
        with catalog.begin() as tx:
            round_pages.unfinished(tx)
            late_pulls.overdue(tx)
            late_pulls.unanswered(tx, 3)
        with catalog.begin() as tx:
            page = round_pages.under_way(tx, under_way)
            sent = round_pages.with_message(tx, with_message)
            waited = round_pages.with_passed_wait(tx)
        under_way, with_message = page[-1], sent[-1] if sent else ("", "")
        every = list({*page, *waited, *(pull_id for _, pull_id in sent)})
        with catalog.begin() as tx:
            due_pulls.whole(tx, every)
            due_pulls.coordinators(tx, every)
            due_layers.layers(tx, every, _LEASE_SECONDS)
            layouts.unsettled(tx)
        with catalog.begin() as tx:
            waiting_reasons.refresh(tx, every, no_pull_worker=False, no_layer_worker=False)


def _send_again(catalog: Catalog) -> None:
    """Let messages come and go: each leaves a dead entry in their index."""
    for _ in range(_TIMES):
        with catalog.begin() as tx:
            tx.exec_driver_sql(_CLEAR)
            tx.exec_driver_sql(_SEND, (_SENT,))
        with catalog.begin() as tx:
            window.measure(tx)


def _measure_window(catalog: Catalog) -> None:
    for _ in range(20):
        with catalog.begin() as tx:
            window.measure(tx)


def _tell(server: PostgresServer, *statements: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


if __name__ == "__main__":
    main()

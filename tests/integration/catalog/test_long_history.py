"""A catalog with a long history: no statement reads the pulls that have ended."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from shared.catalog.admission import admission, pauses, space, waiting_reasons
from shared.catalog.content import diff_ids, image_rows, layouts, tag_history
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.fleet import due_layers, due_pulls, late_pulls, round_pages
from shared.catalog.layers import fetch_state, layer_slots, pull_layers
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import known_image, lifecycle, listings, same_image
from shared.catalog.reports import audit, doctor_checks, overview, queue_position
from shared.oci.digest import Digest
from tests.builders.grown_catalog import GROWING, PULL, RARE_FAILURE, TAG, Size, grow
from tests.builders.images import of
from tests.builders.pulls import fetching, record
from tests.support.services import fresh_database, with_driver
from workers.embedded.servers import PostgresServer
from workers.messages.client import UNREADABLE

SIZE = Size(pulls=12_000, images=4_000)
# A few pages of five hundred rows with what belongs to each row. A twentieth of all pulls has
# failed.
MOST_ENTRIES = 3_000
# Lists are counted up to this number.
MOST_COUNTED = 1_500

HOST = "registry.example"


@pytest.fixture(scope="module")
def grown(postgres_server: PostgresServer, migrated_template: str) -> Iterator[Catalog]:
    """A year of pulls, most of them complete; three are under way and two wait for their turn."""
    with fresh_database(postgres_server, migrated_template) as url:
        grow(url, SIZE)
        catalog = Catalog(with_driver(url))
        with catalog.begin() as tx:
            for number in range(3):
                fetching(tx, f"under way {number}", [base(tx), of(f"top {number}")])
            for number in range(2):
                record(tx, f"in line {number}")
        yield catalog
        catalog.close()


@pytest.fixture
def tx(grown: Catalog) -> Iterator[Connection]:
    """A transaction that leaves nothing behind."""

    class Undone(Exception):
        pass

    try:
        with grown.begin() as tx:
            yield tx
            raise Undone
    except Undone:
        pass


def base(tx: Connection) -> Digest:
    """The layer that a twentieth of all pulls lists."""
    return pull_layers.of_pull(tx, PULL, HOST)[0].digest


# Sums the rows that scans of each table returned and the entries that scans of each index returned.
READ = text("""
    SELECT coalesce(sum(pg_stat_get_xact_tuples_returned(part.oid)), 0)
    FROM (
        SELECT oid FROM pg_class WHERE relname = ANY(:tables) AND relkind = 'r'
        UNION ALL SELECT indexrelid FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
        WHERE relname = ANY(:tables)
    ) AS part
""")


def entries_read(tx: Connection, ask: Callable[[Connection], object]) -> int:
    """How many rows and index entries PostgreSQL reads for this."""

    def so_far() -> int:
        return int(tx.execute(READ, {"tables": sorted(GROWING)}).scalar_one())

    before = so_far()
    ask(tx)
    return so_far() - before


def a_page_later(tx: Connection) -> object:
    return image_rows.listing(tx, image_rows.listing(tx)[-1])


def by_digest(tx: Connection) -> object:
    (image,) = image_rows.of_reference(tx, TAG, "linux/amd64")
    return image_rows.of_digest(tx, image.manifest_digest)


def older(tx: Connection) -> object:
    return listings.recent(tx, listings.recent(tx)[-1])


def of_a_page(ask: Callable[[Connection, list[image_rows.ImageRow]], object]) -> object:
    return lambda tx: ask(tx, image_rows.listing(tx)[:100])


def a_pull(tx: Connection) -> Pull:
    pull = lifecycle.get(tx, "under way 1")
    assert pull is not None
    return pull


def long_ago(tx: Connection) -> datetime:
    return lifecycle.clock(tx) - timedelta(days=1)


def retried(tx: Connection) -> object:
    return listings.failed(tx, error_class=RARE_FAILURE, but=UNREADABLE, until=lifecycle.clock(tx))


LISTS = {
    "ls": image_rows.listing,
    "ls, a page later": a_page_later,
    "ls, how many more": lambda tx: image_rows.count(tx, MOST_COUNTED),
    "status": listings.recent,
    "status, a page later": older,
    "status, how many more": lambda tx: listings.count(tx, MOST_COUNTED),
    "inspect": lambda tx: image_rows.of_reference(tx, TAG),
    "inspect, the layers": lambda tx: image_rows.layers_of(tx, TAG, "linux/amd64"),
    "inspect, by digest": by_digest,
    "a pull by a prefix": lambda tx: listings.beginning_with(tx, PULL[:8], 6),
    "the open retries of a pull": lambda tx: listings.open_retries(tx, [PULL]),
    "history": lambda tx: tag_history.of_reference(tx, TAG, None, 10),
    "history, how many more": lambda tx: tag_history.count(tx, TAG, None, MOST_COUNTED),
    "retry --failed": listings.failed,
    "retry --failed of a class": retried,
}
COMMANDS = {
    "watch, the open pulls": lambda tx: listings.open_pulls(tx, 200),
    "watch, the ended pulls": lambda tx: overview.ended_after(tx, long_ago(tx), 100),
    "watch, the totals": overview.of_fleet,
    "explain, the place": lambda tx: queue_position.place(tx, "in line 1"),
    "explain, the step": lambda tx: queue_position.step_owner(tx, PULL),
    "explain, how fast": lambda tx: queue_position.ended_within(tx, 600),
    "explain, the pause": lambda tx: pauses.of_pull(tx, "in line 1"),
    "resume": lambda tx: tx.execute(pauses._MAY_WAIT),
    "resume, a batch": lambda tx: tx.execute(pauses._MAKE_LAYERS_DUE, {"ids": ["under way 1"]}),
    "doctor, pulls": lambda tx: doctor_checks.unattended(tx, 10),
    "doctor, answers": lambda tx: doctor_checks.unanswered(tx, 60),
    "doctor, failures": doctor_checks.failures,
    "doctor, open pulls": doctor_checks.count_open,
}
PAGES_OF_ALL = {
    "blobs": audit.stored_digests,
    "blobs of images": of_a_page(audit.missing_blobs),
    "diff_ids of images": of_a_page(diff_ids.contradicted),
    "leases": lambda tx: doctor_checks.leased(tx, [base(tx)]),
}
FREQUENT = {
    "admission": admission.admit,
    "unfinished": round_pages.unfinished,
    "overdue": late_pulls.overdue,
    "unanswered": lambda tx: late_pulls.unanswered(tx, 3),
    "under way": round_pages.under_way,
    "with a message": round_pages.with_message,
    "waited long enough": round_pages.with_passed_wait,
    "whole": lambda tx: due_pulls.whole(tx, round_pages.under_way(tx)),
    "coordinators": lambda tx: due_pulls.coordinators(tx, round_pages.under_way(tx)),
    "layers": lambda tx: due_layers.layers(tx, round_pages.under_way(tx), 30),
    "layouts to settle": layouts.unsettled,
    "reasons": lambda tx: waiting_reasons.refresh(
        tx, round_pages.under_way(tx), no_pull_worker=False, no_layer_worker=False
    ),
    "the next pull of an image": lambda tx: same_image.next_to_link(tx, a_pull(tx)),
    "pulls of the same image": lambda tx: same_image.lock(tx, a_pull(tx)),
    "space": lambda tx: space.reserved_bytes(tx, "under way 1"),
    "a layer": lambda tx: fetch_state.load(tx, "under way 1", base(tx)),
    "slots": lambda tx: layer_slots.may_take_slot(tx, HOST, base(tx), 8, 4),
    "a known image": lambda tx: known_image.known(tx, TAG, "linux/amd64"),
}
STATEMENTS = LISTS | COMMANDS | PAGES_OF_ALL | FREQUENT


@pytest.mark.parametrize("ask", STATEMENTS.values(), ids=STATEMENTS.keys())
def test_no_statement_reads_the_pulls_that_have_ended(
    tx: Connection, ask: Callable[[Connection], object]
) -> None:
    assert entries_read(tx, ask) < MOST_ENTRIES


def test_the_measurement_notices_a_full_scan(tx: Connection) -> None:
    scan = "SELECT count(*) FROM pulls WHERE bytes_done > 0"
    assert entries_read(tx, lambda tx: tx.execute(text(scan))) >= SIZE.pulls


BY_ID = {
    "wait": lambda tx: lifecycle.wait(tx, "p", "space", 5, "No room."),
    "go on": lambda tx: lifecycle.clear_waiting(tx, "p"),
    "bytes": lambda tx: lifecycle.refresh_bytes_done(tx, "p", HOST),
    "link": lambda tx: lifecycle.start_linking(tx, "p"),
}


@pytest.mark.parametrize("move", BY_ID.values(), ids=BY_ID.keys())
def test_a_pull_is_updated_by_its_id_however_many_were_recorded_since_the_plan(
    catalog: Catalog, move: Callable[[Connection], object]
) -> None:
    with catalog.begin() as tx:
        fetching(tx, "p")
        for _ in range(3):
            move(tx)
        # The statistics are outdated, and PostgreSQL keeps the plan that it made for a single pull.
        tx.execute(
            text(
                "INSERT INTO pulls (id, reference) "
                "SELECT 'sudden ' || n, 'registry.example/a:1' FROM generate_series(1, 5000) AS n"
            )
        )
        assert entries_read(tx, move) < 100

"""A catalog with a long history: no statement reads the pulls that have ended."""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from shared.catalog import (
    admission,
    audit,
    chains,
    diff_ids,
    duplicates,
    ends,
    history,
    images,
    inventory,
    layer_looks,
    layouts,
    overview,
    pauses,
    pull_layers,
    pulls,
    reasons,
    recovery,
    space,
    unchanged,
    waiters,
)
from shared.catalog.database import Catalog, Connection
from shared.catalog.pull_values import Pull
from shared.oci.digest import Digest
from tests.grown import GROWING, PULL, RARE_FAILURE, TAG, Size, grow
from tests.integration.catalog.given import of
from tests.integration.catalog.given_pulls import fetching, record
from tests.services import fresh_database, with_driver
from workers.client import UNREADABLE
from workers.stack.servers import PostgresServer

pytestmark = pytest.mark.integration

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
    return images.listing(tx, images.listing(tx)[-1])


def older(tx: Connection) -> object:
    return pulls.recent(tx, pulls.recent(tx)[-1])


def of_a_page(ask: Callable[[Connection, list[images.ImageRow]], object]) -> object:
    return lambda tx: ask(tx, images.listing(tx)[:100])


def a_pull(tx: Connection) -> Pull:
    pull = pulls.get(tx, "under way 1")
    assert pull is not None
    return pull


def long_ago(tx: Connection) -> datetime:
    return pulls.clock(tx) - timedelta(days=1)


def retried(tx: Connection) -> object:
    return ends.failed(tx, error_class=RARE_FAILURE, but=UNREADABLE, until=pulls.clock(tx))


LISTS = {
    "ls": images.listing,
    "ls, a page later": a_page_later,
    "ls, how many more": lambda tx: images.count(tx, MOST_COUNTED),
    "status": pulls.recent,
    "status, a page later": older,
    "status, how many more": lambda tx: pulls.count(tx, MOST_COUNTED),
    "inspect": lambda tx: images.of_reference(tx, TAG),
    "inspect, the layers": lambda tx: images.layers_of(tx, TAG, "linux/amd64"),
    "history": lambda tx: history.of_reference(tx, TAG, None, 10),
    "history, how many more": lambda tx: history.count(tx, TAG, None, MOST_COUNTED),
    "retry --failed": ends.failed,
    "retry --failed of a class": retried,
}
COMMANDS = {
    "watch, the open pulls": lambda tx: pulls.open_pulls(tx, 200),
    "watch, the ended pulls": lambda tx: overview.ended_after(tx, long_ago(tx), 100),
    "watch, the totals": overview.of_fleet,
    "explain, the place": lambda tx: chains.place(tx, "in line 1"),
    "explain, the holders": lambda tx: chains.holders(tx, PULL),
    "explain, how fast": lambda tx: chains.ended_within(tx, 600),
    "explain, the pause": lambda tx: pauses.of_pull(tx, "in line 1"),
    "resume": lambda tx: tx.execute(pauses._MAY_WAIT),
    "resume, a batch": lambda tx: tx.execute(pauses._MAKE_LAYERS_DUE, {"ids": ["under way 1"]}),
    "doctor, pulls": lambda tx: inventory.unattended(tx, 10),
    "doctor, answers": lambda tx: inventory.unanswered(tx, 60),
    "doctor, failures": inventory.failures,
    "doctor, open pulls": inventory.count_open,
}
PAGES_OF_ALL = {
    "blobs": audit.stored_digests,
    "blobs of images": of_a_page(audit.unbacked),
    "diff_ids of images": of_a_page(diff_ids.contradicted),
    "leases": lambda tx: inventory.leased(tx, [base(tx)]),
}
FREQUENT = {
    "admission": admission.admit,
    "unfinished": recovery.unfinished,
    "overdue": recovery.overdue,
    "unanswered": lambda tx: recovery.unanswered(tx, 3),
    "under way": recovery.under_way,
    "with a message": recovery.with_message,
    "waited long enough": recovery.waited,
    "whole": lambda tx: recovery.whole(tx, recovery.under_way(tx)),
    "coordinators": lambda tx: recovery.coordinators(tx, recovery.under_way(tx)),
    "layers": lambda tx: recovery.layers(tx, recovery.under_way(tx), 30),
    "layouts to settle": layouts.unsettled,
    "reasons": lambda tx: reasons.refresh(
        tx, recovery.under_way(tx), no_pull_worker=False, no_layer_worker=False
    ),
    "the next pull of an image": lambda tx: duplicates.next_whole(tx, a_pull(tx)),
    "pulls of the same image": lambda tx: duplicates.lock(tx, a_pull(tx)),
    "space": lambda tx: space.reserved_bytes(tx, "under way 1"),
    "a layer": lambda tx: layer_looks.look(tx, "under way 1", base(tx)),
    "slots": lambda tx: waiters.may_take_slot(tx, HOST, base(tx), 8, 4),
    "a known image": lambda tx: unchanged.known(tx, TAG, "linux/amd64"),
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
    "wait": lambda tx: pulls.wait(tx, "p", "space", 5, "No room."),
    "go on": lambda tx: pulls.go_on(tx, "p"),
    "bytes": lambda tx: pulls.refresh_bytes_done(tx, "p", HOST),
    "link": lambda tx: pulls.linking(tx, "p"),
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

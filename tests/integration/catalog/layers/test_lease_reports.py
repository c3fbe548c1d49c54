"""Leases on blobs while they are held: renewed, assigned to another pull, released, ended."""

from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.layers import lease_reports, leases, storing
from shared.catalog.layers.lease_reports import Report
from shared.catalog.layers.storing import StoredLayer
from tests.builders.images import of, rows, together
from tests.builders.leases import SHORT, expire, reach, report, take, taken
from tests.builders.pulls import BASE, HOST, OTHER_HOST, TOP

EVERYTHING = "SELECT * FROM leases"
ALIVE = "SELECT expires_at > clock_timestamp(), renewed_at > now() FROM leases"


def test_an_overtaken_owner_is_told_and_changes_nothing(tx: Connection) -> None:
    old = reach(tx, 10)
    expire(tx)
    new = taken(tx, "new", SHORT).fence
    before = rows(tx, EVERYTHING)
    assert not report(tx, old, 90)
    leases.release(tx, HOST, BASE, old, 90)
    leases.assign(tx, HOST, BASE, old, "another")
    assert rows(tx, EVERYTHING) == before
    assert report(tx, new, 20)


def test_a_report_renews_the_lease_by_the_databases_clock(tx: Connection) -> None:
    fence = taken(tx).fence
    expire(tx)
    # Late, but no other worker has taken the lease.
    assert report(tx, fence, 40)
    assert rows(tx, ALIVE) == [(True, True)]
    assert rows(tx, "SELECT bytes_done FROM leases") == [(40,)]


def test_a_report_without_a_sign_of_life_does_not_renew_the_lease(tx: Connection) -> None:
    fence = taken(tx).fence
    tx.exec_driver_sql("UPDATE leases SET renewed_at = now() - interval '1 hour'")
    before = rows(tx, "SELECT expires_at, renewed_at FROM leases")
    assert report(tx, fence, 40, renew=False)
    assert rows(tx, "SELECT expires_at, renewed_at FROM leases") == before
    assert rows(tx, "SELECT bytes_done FROM leases") == [(40,)]


def test_of_several_reports_at_once_only_the_valid_fences_are_returned(tx: Connection) -> None:
    base, top = taken(tx).fence, taken(tx, digest=TOP).fence
    gone = taken(tx, digest=of("gone")).fence
    storing.store_layers(tx, [StoredLayer("p", of("gone"), 100, "network")])
    reports = [
        Report(HOST, BASE, base, 1, True),
        Report(HOST, TOP, top, 2, False),
        Report(HOST, of("gone"), gone, 3, True),
        Report(OTHER_HOST, BASE, base, 4, True),
    ]
    assert lease_reports.renew(tx, reports, 30) == {base, top}
    assert sorted(rows(tx, "SELECT bytes_done FROM leases")) == [(1,), (2,)]


def test_a_released_lease_cannot_be_renewed(tx: Connection) -> None:
    fence = reach(tx, 40)
    leases.release(tx, HOST, BASE, fence, 40)
    assert not report(tx, fence, 90)
    assert rows(tx, "SELECT owner, bytes_done FROM leases") == [(None, 40)]


def test_storing_a_blob_ends_its_leases_of_every_registry(tx: Connection) -> None:
    fence = taken(tx).fence
    taken(tx, registry=OTHER_HOST)
    other = taken(tx, digest=TOP).fence
    storing.store_layers(tx, [StoredLayer("p", BASE, 100, "network")])
    assert not report(tx, fence, 1)
    assert rows(tx, "SELECT fence FROM leases") == [(other,)]


def test_leases_may_be_taken_and_ended_at_once(catalog: Catalog) -> None:
    def work(number: int) -> None:
        registry = (HOST, OTHER_HOST)[number % 2]
        for _ in range(10):
            with catalog.begin() as tx:
                take(tx, f"worker {number}", registry=registry)
            with catalog.begin() as tx:
                storing.store_layers(tx, [StoredLayer("p", BASE, 100, "network")])

    together([lambda number=number: work(number) for number in range(6)])
    with catalog.begin() as tx:
        assert rows(tx, EVERYTHING) == []


def test_a_lease_can_be_assigned_to_another_pull(tx: Connection) -> None:
    leases.assign(tx, HOST, BASE, taken(tx).fence, "another")
    assert rows(tx, "SELECT owner, pull_id FROM leases") == [("me", "another")]


def test_releasing_all_leases_keeps_the_bytes_and_counts_no_death(tx: Connection) -> None:
    reach(tx, 40)
    leases.release_all(tx)
    assert taken(tx, "new").starts == 0
    assert rows(tx, "SELECT bytes_done FROM leases") == [(40,)]
    assert stored_blobs.stored(tx, [BASE]) == {}

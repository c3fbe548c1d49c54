"""Leases on blobs: one owner at a time, and what an owner that dies leaves behind."""

from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.layers import leases
from shared.catalog.layers.leases import Lease, LeaseHeld
from tests.builders.images import rows, together
from tests.builders.leases import LONG, SHORT, expire, reach, report, take, taken
from tests.builders.pulls import BASE, HOST, OTHER_HOST, TOP


def contend(catalog: Catalog, lease_seconds: float) -> list[Lease | LeaseHeld]:
    """Eight workers take the lease at once, and the worker that gets it reports progress."""
    answers: list[Lease | LeaseHeld] = []

    def work(number: int) -> None:
        with catalog.begin() as tx:
            answer = take(tx, f"worker {number}", lease_seconds)
            answers.append(answer)
            if isinstance(answer, Lease):
                assert report(tx, answer.fence, 0)

    together([lambda number=number: work(number) for number in range(8)])
    return answers


def test_of_many_takers_one_gets_the_lease_and_the_others_see_its_owner(catalog: Catalog) -> None:
    answers = contend(catalog, 30)
    (mine,) = (answer for answer in answers if isinstance(answer, Lease))
    with catalog.begin() as tx:
        ((owner, fence),) = rows(tx, "SELECT owner, fence FROM leases")
    assert fence == mine.fence
    assert [answer.owner for answer in answers if isinstance(answer, LeaseHeld)] == [owner] * 7


def test_of_many_takers_of_an_expired_lease_one_gets_it(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        old = taken(tx)
        expire(tx)
    (mine,) = (answer for answer in contend(catalog, SHORT) if isinstance(answer, Lease))
    assert mine.fence > old.fence


def test_of_many_takers_of_a_released_lease_one_gets_it(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        leases.release(tx, HOST, BASE, reach(tx, 40), 40)
    (mine,) = (answer for answer in contend(catalog, 30) if isinstance(answer, Lease))
    assert mine.starts == 0


def test_a_held_lease_shows_its_owner_its_pull_its_progress_and_its_end(tx: Connection) -> None:
    reach(tx, 40, owner="worker", pull_id="leader")
    held = take(tx, "another")
    assert isinstance(held, LeaseHeld)
    assert (held.owner, held.pull_id, held.bytes_done) == ("worker", "leader", 40)
    assert 0 < held.seconds <= 30


def test_an_expired_lease_is_taken_with_a_higher_fence(tx: Connection) -> None:
    old = taken(tx, "old")
    expire(tx)
    new = taken(tx, "new", SHORT)
    assert new.fence > old.fence
    assert rows(tx, "SELECT owner, pull_id FROM leases") == [("new", "p")]


def test_a_released_lease_is_taken_at_once_and_keeps_its_bytes(tx: Connection) -> None:
    fence = reach(tx, 40)
    leases.release(tx, HOST, BASE, fence, 60)
    # A released lease is free, even if the server has just started.
    new = taken(tx, "new", LONG)
    assert (new.fence > fence, new.starts) == (True, 0)
    assert rows(tx, "SELECT owner, bytes_done, started_bytes FROM leases") == [("new", 60, 60)]


def test_no_owner_counts_as_dead_for_one_lease_time_after_the_server_started(
    tx: Connection,
) -> None:
    fence = taken(tx, "cut off").fence
    expire(tx)
    held = take(tx, "new", LONG)
    assert isinstance(held, LeaseHeld)
    assert held.seconds > 30
    other = taken(tx, "other", LONG, registry=OTHER_HOST)
    assert other.others == {fence}
    assert taken(tx, "third", SHORT, registry="third.example").others == {other.fence}
    assert isinstance(take(tx, "new", SHORT), Lease)


def test_a_digest_from_two_registries_has_two_leases(tx: Connection) -> None:
    first, second = taken(tx), taken(tx, registry=OTHER_HOST)
    assert first.fence != second.fence
    assert (first.others, second.others) == (set(), {first.fence})


def test_a_taken_lease_names_the_fences_of_live_leases_of_other_registries(
    tx: Connection,
) -> None:
    living = taken(tx).fence
    released = taken(tx, registry=OTHER_HOST).fence
    leases.release(tx, OTHER_HOST, BASE, released, 0)
    taken(tx, digest=TOP)
    assert taken(tx, registry="third.example").others == {living}


# Starts without progress


def die(tx: Connection, bytes_done: int) -> int:
    """An owner gets this far and dies. Returns how many had died in a row before it."""
    lease = taken(tx, lease_seconds=SHORT)
    report(tx, lease.fence, bytes_done)
    expire(tx)
    return lease.starts


def test_owners_that_die_in_a_row_without_progress_are_counted(tx: Connection) -> None:
    assert [die(tx, 0) for _ in range(4)] == [0, 1, 2, 3]


def test_progress_resets_the_count(tx: Connection) -> None:
    assert [die(tx, reached) for reached in (0, 0, 10, 10, 10, 11, 11)] == [0, 1, 2, 0, 1, 2, 0]


def test_a_release_in_good_order_neither_counts_nor_resets_the_count(tx: Connection) -> None:
    assert [die(tx, 0), die(tx, 0)] == [0, 1]
    for _ in range(3):
        lease = taken(tx, lease_seconds=SHORT)
        assert lease.starts == 2
        leases.release(tx, HOST, BASE, lease.fence, 0)
    assert die(tx, 0) == 2


def test_a_forgotten_lease_is_free_and_has_a_clean_record(tx: Connection) -> None:
    assert [die(tx, 0), die(tx, 0)] == [0, 1]
    taken(tx, lease_seconds=SHORT)
    leases.reset(tx, HOST, BASE)
    assert taken(tx, lease_seconds=LONG).starts == 0


# A clock that was set back


def set_back(tx: Connection) -> None:
    """Make the leases look as if they were renewed an hour from now."""
    tx.exec_driver_sql(
        "UPDATE leases SET renewed_at = renewed_at + interval '1 hour',"
        " expires_at = expires_at + interval '1 hour'"
    )


def test_after_the_clock_was_set_back_a_lease_lasts_at_most_one_lease_time(
    tx: Connection,
) -> None:
    taken(tx)
    set_back(tx)
    leases.shorten_after_clock_change(tx)
    lasts = "expires_at - clock_timestamp() BETWEEN interval '1 s' AND interval '30 s'"
    assert rows(tx, f"SELECT {lasts} FROM leases") == [(True,)]


def test_a_lease_that_was_renewed_in_the_past_or_released_is_not_shortened(
    tx: Connection,
) -> None:
    taken(tx)
    released = taken(tx, digest=TOP).fence
    leases.release(tx, HOST, TOP, released, 0)
    before = rows(tx, "SELECT * FROM leases ORDER BY digest")
    leases.shorten_after_clock_change(tx)
    assert rows(tx, "SELECT * FROM leases ORDER BY digest") == before

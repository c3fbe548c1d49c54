"""Leases on the steps of a pull and on leading the reconcilers."""

import pytest

from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.fleet import step_leases
from shared.catalog.fleet.step_leases import RECONCILER, StepLease
from tests.builders.images import rows, together
from tests.builders.leases import expire

STEP = step_leases.of_pull("p")


def taken(tx: Connection, owner: str = "me") -> StepLease:
    lease = step_leases.take(tx, STEP, owner, 30)
    assert lease is not None
    return lease


def contend(catalog: Catalog) -> list[StepLease]:
    """Eight workers take the lease at once. Returns what they got."""
    got: list[StepLease] = []

    def work(number: int) -> None:
        with catalog.begin() as tx:
            lease = step_leases.take(tx, STEP, f"worker {number}", 30)
        if lease is not None:
            got.append(lease)

    together([lambda number=number: work(number) for number in range(8)])
    return got


def test_of_many_takers_one_gets_the_lease(catalog: Catalog) -> None:
    (lease,) = contend(catalog)
    assert (lease.name, lease.starts) == ("pull/p", 0)


def test_of_many_takers_of_an_expired_lease_one_gets_it(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        old = taken(tx)
        expire(tx)
    (lease,) = contend(catalog)
    assert (lease.fence > old.fence, lease.starts) == (True, 1)


def test_owners_that_die_in_a_row_are_counted_until_a_step_ends(tx: Connection) -> None:
    starts = []
    for _ in range(3):
        starts.append(taken(tx).starts)
        expire(tx)
    assert starts == [0, 1, 2]
    step_leases.end(tx, taken(tx).fence)
    assert taken(tx).starts == 0


def test_an_ended_step_is_free_at_once(tx: Connection) -> None:
    old = taken(tx)
    assert step_leases.take(tx, STEP, "another", 30) is None
    step_leases.end(tx, old.fence)
    assert taken(tx, "another").fence > old.fence


def test_an_overtaken_owner_can_neither_renew_nor_end_a_step(tx: Connection) -> None:
    old = taken(tx, "old").fence
    expire(tx)
    new = taken(tx, "new").fence
    before = rows(tx, "SELECT * FROM step_leases")
    assert step_leases.renew(tx, [old], 60) == set()
    step_leases.end(tx, old)
    assert rows(tx, "SELECT * FROM step_leases") == before
    assert step_leases.renew(tx, [old, new], 60) == {new}


def test_a_renewed_lease_cannot_be_taken(tx: Connection) -> None:
    fence = taken(tx).fence
    expire(tx)
    assert step_leases.renew(tx, [fence], 30) == {fence}
    assert step_leases.take(tx, STEP, "another", 30) is None


def test_leases_of_two_pulls_and_of_the_leader_are_independent(tx: Connection) -> None:
    taken(tx)
    for name in (step_leases.of_pull("other"), RECONCILER):
        assert step_leases.take(tx, name, "another", 30) is not None
    step_leases.end_all(tx)
    assert rows(tx, "SELECT * FROM step_leases") == []


@pytest.mark.parametrize("name", [STEP, RECONCILER])
def test_after_the_clock_was_set_back_a_lease_lasts_at_most_one_lease_time(
    tx: Connection, name: str
) -> None:
    for taken_name in (STEP, RECONCILER):
        assert step_leases.take(tx, taken_name, "dead", 3600) is not None
    pattern = step_leases.of_pull("%") if name == STEP else RECONCILER
    step_leases.shorten_after_clock_change(tx, pattern, 30)
    bounded = "SELECT name FROM step_leases WHERE expires_at <= now() + interval '31 seconds'"
    assert rows(tx, bounded) == [(name,)]

"""Whose turn it is: priority, then the requester with the least under way, then age."""

import pytest

from shared.catalog import admission, ends, fleet, pauses
from shared.catalog.database import Catalog, Connection
from tests.integration.catalog.given import rows, together
from tests.integration.catalog.given_pulls import HOST, OTHER_HOST, admitted, fetching, record, row

pytestmark = pytest.mark.integration

# The window of four slots.
WINDOW = 16


def slots(tx: Connection, count: int | None = 4) -> None:
    """So many layers can be fetched at once."""
    fleet.count_slots(tx, count, 2)


def fill(tx: Connection, count: int) -> None:
    """So much of the window is taken, by somebody who asks for nothing else."""
    for number in range(count):
        admitted(tx, f"under way {number}", requested_by="somebody")


def in_turn(tx: Connection) -> list[str]:
    """Who is admitted, one after the other, when one place is free at a time."""
    order: list[str] = []
    fill(tx, WINDOW - 1)
    while one := admission.admit(tx):
        order += one
        tx.exec_driver_sql("UPDATE pulls SET state = 'complete' WHERE id = ANY(%s)", (one,))
    return order


def test_priority_comes_first_then_age(tx: Connection) -> None:
    slots(tx)
    for pull_id, priority, age in (
        ("young", 5, 1),
        ("old", 5, 9),
        ("urgent", 7, 0),
        ("patient", 0, 99),
    ):
        record(tx, pull_id, priority=priority, age_minutes=age)
    assert in_turn(tx) == ["urgent", "old", "young", "patient"]


def test_who_asks_for_little_does_not_wait_behind_who_asks_for_much(tx: Connection) -> None:
    slots(tx)
    for number in range(50):
        record(tx, f"many {number}", requested_by="many", age_minutes=60)
    for number in range(2):
        record(tx, f"few {number}", requested_by="few")
    fill(tx, WINDOW - 4)
    first = admission.admit(tx)
    assert len(first) == 4
    assert {"few 0", "few 1"} < set(first)


def test_what_a_requester_has_under_way_counts(tx: Connection) -> None:
    slots(tx)
    fill(tx, WINDOW - 4)
    for number in range(3):
        admitted(tx, f"running {number}", requested_by="busy")
    record(tx, "of the busy", requested_by="busy", age_minutes=60)
    record(tx, "of nobody", requested_by=None)
    assert admission.admit(tx) == ["of nobody"]


def test_a_more_urgent_pull_of_the_busy_goes_before_a_plain_one_of_the_idle(
    tx: Connection,
) -> None:
    slots(tx)
    fill(tx, WINDOW - 4)
    for number in range(3):
        admitted(tx, f"running {number}", requested_by="busy")
    record(tx, "of the busy", requested_by="busy", priority=6)
    record(tx, "of the idle", requested_by="idle")
    assert admission.admit(tx) == ["of the busy"]


def test_an_admitted_pull_has_a_message_on_its_way_and_waits_no_longer(tx: Connection) -> None:
    before = record(tx)
    assert admission.admit(tx) == ["p"]
    after = row(tx)
    assert (after.state, after.generation) == ("queued", before.generation + 1)
    assert None not in {after.admitted_at, after.dispatched_at}
    assert after.waiting_for is None
    assert admission.admit(tx) == []


def test_only_queued_pulls_are_admitted(tx: Connection) -> None:
    record(tx, "failed")
    ends.fail(tx, "failed", "A", None, "b")
    fetching(tx, "fetching")
    assert admission.admit(tx) == []


@pytest.mark.parametrize(
    ("scope", "name"), [("fleet", ""), ("registry", HOST), ("requester", "ci")]
)
def test_a_paused_pull_is_not_admitted(tx: Connection, scope: str, name: str) -> None:
    record(tx, requested_by="ci", priority=9)
    pauses.pause(tx, scope, name)
    assert admission.admit(tx) == []
    pauses.resume(tx, scope, name)
    assert admission.admit(tx) == ["p"]


def test_the_paused_are_passed_by_however_many_stand_before(tx: Connection) -> None:
    slots(tx)
    for number in range(WINDOW * 2):
        record(tx, f"paused {number}", age_minutes=60)
    record(tx, "elsewhere", registry=OTHER_HOST)
    pauses.pause(tx, "registry", HOST)
    assert admission.admit(tx) == ["elsewhere"]


def test_many_that_admit_at_once_admit_each_pull_once_and_no_more_than_there_is_room_for(
    catalog: Catalog,
) -> None:
    with catalog.begin() as tx:
        slots(tx)
        for number in range(WINDOW * 3):
            record(tx, f"{number}")
    turns: list[str] = []

    def admit() -> None:
        with catalog.begin() as tx:
            turns.extend(admission.admit(tx))

    together([admit] * 8)
    assert len(turns) == len(set(turns)) == WINDOW
    with catalog.begin() as tx:
        under_way = "SELECT count(*) FROM pulls WHERE admitted_at IS NOT NULL"
        assert rows(tx, under_way) == [(WINDOW,)]

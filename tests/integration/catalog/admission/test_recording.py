"""Recording pulls: once per id, as they were requested."""

import pytest
from sqlalchemy.exc import IntegrityError

from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.model.pull_values import NewPull, Pull
from shared.catalog.pulls import lifecycle
from tests.builders import images as given
from tests.builders.images import PLATFORM, TAG, together
from tests.builders.pulls import HOST, record, row


def test_a_recorded_pull_is_queued_as_it_was_requested(tx: Connection) -> None:
    new = NewPull(
        "p", TAG, None, "if-missing", 9, "ci", {"team": "a"}, "an older one", HOST, "team/app"
    )
    assert lifecycle.record(tx, new) == row(tx)
    pull = row(tx)
    assert (pull.state, pull.has_ended, pull.attempts, pull.bytes_done) == ("queued", False, 0, 0)
    assert (pull.reference, pull.platform, pull.policy) == (TAG, None, "if-missing")
    assert (pull.priority, pull.requested_by, pull.labels) == (9, "ci", {"team": "a"})
    assert (pull.retry_of, pull.bytes_total) == ("an older one", None)
    assert (pull.registry, pull.repository) == (HOST, "team/app")
    assert (pull.admitted_at, pull.deadline_at) == (None, None)


def test_a_recorded_pull_has_the_reason_that_it_waits_for_its_turn(tx: Connection) -> None:
    waiting = record(tx).waiting_for
    assert waiting is not None
    assert (waiting["cause"], set(waiting)) == ("turn", {"cause", "until", "detail"})
    future = "(waiting_for->>'until')::timestamptz > clock_timestamp()"
    assert given.rows(tx, f"SELECT {future} FROM pulls") == [(True,)]


def test_a_deadline_is_counted_by_the_databases_clock(tx: Connection) -> None:
    record(tx, deadline_seconds=60)
    span = "deadline_at - created_at BETWEEN interval '60 s' AND interval '61 s'"
    assert given.rows(tx, f"SELECT {span} FROM pulls") == [(True,)]


def test_the_same_id_is_one_pull_and_the_first_arguments_win(tx: Connection) -> None:
    record(tx)
    again = lifecycle.record(tx, NewPull("p", "registry.example/other:2", None, priority=0))
    assert (again.reference, again.platform, again.priority) == (TAG, PLATFORM, 5)


def test_an_id_that_is_sent_many_times_at_once_is_one_pull(catalog: Catalog) -> None:
    seen: list[Pull] = []

    def send(number: int) -> None:
        with catalog.begin() as tx:
            seen.append(lifecycle.record(tx, NewPull("p", TAG, None, requested_by=str(number))))

    together([lambda number=number: send(number) for number in range(8)])
    assert len({pull.requested_by for pull in seen}) == 1


@pytest.mark.parametrize(
    "new",
    [NewPull("x" * 156, TAG, None), NewPull("p", TAG, None, priority=10)],
    ids=["id", "priority"],
)
def test_the_table_refuses_what_the_contract_does_not_allow(catalog: Catalog, new: NewPull) -> None:
    with pytest.raises(IntegrityError), catalog.begin() as tx:
        lifecycle.record(tx, new)


def test_the_longest_allowed_id_is_stored(tx: Connection) -> None:
    record(tx, "é" * 155)
    assert row(tx, "é" * 155).state == "queued"

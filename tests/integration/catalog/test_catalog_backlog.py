"""A backlog of ten thousand: who chooses what goes next reads no more than the backlog."""

import pytest
from sqlalchemy import bindparam, text

from shared.catalog import admission, fleet, reasons, recovery
from shared.catalog.database import Connection
from tests.integration.catalog.given import rows

pytestmark = pytest.mark.integration

QUEUED = """
    INSERT INTO pulls (id, reference, priority, requested_by, registry, repository, created_at)
    SELECT 'queued ' || n, 'registry.example/team/app:1', n % 10, 'requester ' || n % 13,
        'registry.example', 'team/app', now() - make_interval(secs => n)
    FROM generate_series(1, 10000) AS n
"""
# A catalog keeps what has ended: most rows are of no interest here.
ENDED = """
    INSERT INTO pulls (id, reference, state, registry, repository, admitted_at, created_at,
        finished_at, answered_at)
    SELECT 'ended ' || n, 'registry.example/team/app:1', 'complete', 'registry.example',
        'team/app', now(), now(), now(), now()
    FROM generate_series(1, 50000) AS n
"""


@pytest.fixture
def backlog(tx: Connection) -> Connection:
    """Ten thousand wait for their turn, and the database knows it."""
    for statement in (QUEUED, ENDED, "ANALYZE pulls"):
        tx.execute(text(statement))
    return tx


def plan(tx: Connection, statement: str, **values: object) -> str:
    """How the database goes about it."""
    bound = text(f"EXPLAIN {statement}").bindparams(
        *(bindparam(name, value) for name, value in values.items())
    )
    return "\n".join(line for (line,) in tx.execute(bound))


def test_whose_turn_it_is_comes_from_the_partial_index(backlog: Connection) -> None:
    chosen = plan(backlog, admission._ADMIT, places=16, least=0)
    assert "pulls_turn_idx" in chosen
    assert "Seq Scan on pulls " not in chosen
    assert "pulls_turn_idx" in plan(backlog, admission._ANYBODY_WAITS)
    assert "Seq Scan on pulls " not in plan(backlog, admission._UNDER_WAY)


def test_reasons_are_sought_among_the_open_pulls_only(backlog: Connection) -> None:
    values = {"no_pull_worker": False, "no_layer_worker": False, "seconds": 60}
    assert "Seq Scan on pulls " not in plan(backlog, reasons._REFRESH, **values)
    assert "Seq Scan on pulls " not in plan(backlog, reasons._BYTES)


def test_of_ten_thousand_the_most_urgent_of_every_requester_are_admitted(
    backlog: Connection,
) -> None:
    fleet.count_slots(backlog, 13, None)
    turns = admission.admit(backlog)
    # Four messages a slot, and a quarter more for the urgent.
    assert len(turns) == 65
    by_requester = """
        SELECT requested_by, count(*), min(priority) FROM pulls
        WHERE state = 'queued' AND admitted_at IS NOT NULL GROUP BY 1
    """
    assert {(count, lowest) for _, count, lowest in rows(backlog, by_requester)} == {(5, 9)}
    assert admission.admit(backlog) == []


def test_what_waits_for_its_turn_is_nothing_to_recover(backlog: Connection) -> None:
    assert recovery.unfinished(backlog) == recovery.Unfinished(open=True, unanswered=False)
    assert recovery.whole(backlog) == []
    assert recovery.coordinators(backlog) == []
    assert recovery.layers(backlog, 30) == []

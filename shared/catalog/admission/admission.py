"""Admission: which waiting pulls go next.

The order is priority first, then the requester with the fewest admitted pulls, then age. Only
admitted pulls have messages, so the queues in Redis stay short and an urgent pull never stands
behind a backlog. A pull that is not admitted waits for its `turn` as a row and costs nothing else.
Pulls whose registry asked the fleet to wait stay rows, too.

How many pulls are admitted is limited by the window (`window.py`).
"""

from dataclasses import dataclass

from sqlalchemy import CTE, exists, func, select
from sqlalchemy.sql.dml import ReturningUpdate

from shared.catalog.admission import window
from shared.catalog.admission.candidates import PLACES, candidates, requester_of
from shared.catalog.admission.waiting_pulls import admit_waiting
from shared.catalog.admission.window import URGENT_PRIORITY
from shared.catalog.database.catalog import Connection
from shared.catalog.model.expressions import as_rows_of, constant
from shared.catalog.model.fleet_tables import Pauses
from shared.catalog.model.predicates import by_turn, is_in, is_paused, is_waiting
from shared.catalog.model.pull_tables import OPEN_STATES, Pulls

# How many pulls one statement admits at most. The next round admits more.
_BATCH = 200

# Held while admitting: two processes that decide at once would both fill the same places. The
# number is arbitrary.
_ADVISORY_LOCK = 7_016_996_765_293_437_282
_TRY_LOCK = select(func.pg_try_advisory_xact_lock(constant(_ADVISORY_LOCK)))

_HIGHEST_WAITING = (
    select(Pulls.priority)
    .where(is_waiting(Pulls), ~exists().where(Pauses.scope == constant("fleet")))
    .order_by(Pulls.priority.desc())
    .limit(constant(1))
)


def _ranked() -> CTE:
    """Return the candidates with their `share`: what the requester would have under way once this
    pull is admitted.
    """
    running = (
        select(requester_of(Pulls).label("requester"), func.count().label("pulls"))
        # `is_under_way` says the same, but with outdated statistics PostgreSQL would then read
        # `pulls_open_idx`, waiting pulls included.
        .where(is_in(Pulls, *OPEN_STATES), Pulls.admitted_at.is_not(None))
        .group_by(requester_of(Pulls))
        .cte("running")
    )
    pull = as_rows_of(Pulls, candidates())
    place = func.row_number().over(partition_by=requester_of(pull), order_by=by_turn(pull))
    share = func.coalesce(running.c.pulls, constant(0)) + place
    return (
        select(pull.id, pull.priority, pull.created_at, share.label("share"))
        .select_from(pull)
        .outerjoin(running, running.c.requester == requester_of(pull))
        .where(~is_paused(pull))
        .cte("ranked")
    )


def _admit_best() -> ReturningUpdate[str, int]:
    ranked = _ranked()
    best = (
        select(ranked.c.id)
        .order_by(ranked.c.priority.desc(), ranked.c.share, ranked.c.created_at)
        .limit(PLACES)
        .subquery("best")
    )
    # Locked in id order; a row that another transaction holds is left for the next round.
    chosen = (
        select(Pulls.id)
        .join(best, best.c.id == Pulls.id)
        .order_by(Pulls.id)
        .with_for_update(of=Pulls, skip_locked=True)
        .cte("chosen")
    )
    return admit_waiting().where(Pulls.id == chosen.c.id).returning(Pulls.id, Pulls.priority)


_ADMIT_BEST = _admit_best()


@dataclass(frozen=True, slots=True)
class Admitted:
    """A pull that was admitted: its coordinator's message is to be sent."""

    pull_id: str
    is_urgent: bool


def admit(tx: Connection) -> list[Admitted]:
    """Admit as many pulls as the window has room for; the caller sends their messages after commit.

    Urgent pulls come first: they may fill the urgent part as well as the window. The others get
    what is left of the window. Returns nothing while another process admits.
    """
    highest = tx.execute(_HIGHEST_WAITING).scalar()
    if highest is None:
        return []
    if not tx.execute(_TRY_LOCK).scalar():
        # The other process fills the window. A place that became free too late for it is filled by
        # the next call: workers admit when a pull ends, the reconciler admits in each round.
        return []
    admitted: list[Admitted] = []
    if highest >= URGENT_PRIORITY:
        admitted += _admit(tx, window.measure(tx).urgent_places, URGENT_PRIORITY)
    return admitted + _admit(tx, window.measure(tx).places, 0)


def _admit(tx: Connection, places: int, least_priority: int) -> list[Admitted]:
    if places <= 0:
        return []
    values = {"places": min(places, _BATCH), "least_priority": least_priority}
    rows = tx.execute(_ADMIT_BEST, values)
    return [Admitted(row.id, row.priority >= URGENT_PRIORITY) for row in rows]

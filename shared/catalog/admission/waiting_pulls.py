"""Waiting pulls: queued and not admitted. They are admitted, and may go back to waiting.

A pull that cannot be planned now, for lack of space or because its registry asked the fleet to
wait, gives its place in the window to another pull. It is admitted again once `not_before` has
passed.
"""

from datetime import timedelta

from sqlalchemy import Interval, Update, bindparam, func, null, select, update

from shared.catalog.admission import window
from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import by_key, constant
from shared.catalog.model.predicates import by_turn, has_no_plan, is_waiting
from shared.catalog.model.pull_tables import Pulls
from shared.catalog.model.pull_values import Pull
from shared.catalog.model.waiting_for import reason, waits_for
from shared.catalog.pulls import lifecycle


def admit_waiting() -> Update:
    """Return an update that admits pulls that still wait; the caller adds which pulls."""
    return (
        update(Pulls)
        .where(by_key(is_waiting(Pulls)))
        .values(
            admitted_at=func.clock_timestamp(),
            dispatched_at=func.clock_timestamp(),
            generation=Pulls.generation + constant(1),
            waiting_for=null(),
        )
    )


_READMITTED_AT = func.statement_timestamp() + bindparam("delay", type_=Interval)
_RETURN = (
    update(Pulls)
    .where(Pulls.id == bindparam("pull_id"), by_key(has_no_plan(Pulls)))
    .values(
        state=constant("queued"),
        admitted_at=null(),
        not_before=_READMITTED_AT,
        waiting_for=reason(bindparam("cause"), _READMITTED_AT, bindparam("detail")),
    )
)


def readmit_later(tx: Connection, pull_id: str, cause: str, seconds: float, detail: str) -> None:
    """Take back the admission of a pull that has no plan yet; it is not admitted for `seconds`.

    This frees its place in the window.
    """
    delay = timedelta(seconds=seconds)
    tx.execute(_RETURN, {"pull_id": pull_id, "cause": cause, "detail": detail, "delay": delay})


# Pulls without space keep up to half of the window and are planned again soon. The others give
# their places back. They wait for a quarter of their age, within these bounds: otherwise thousands
# of them would be planned again every few seconds.
_SHORTEST_DELAY_SECONDS = 60.0
_LONGEST_DELAY_SECONDS = 900.0


def wait_for_space(tx: Connection, pull: Pull, seconds: float, detail: str) -> None:
    """Make a pull wait because the volume has no room for it.

    While fewer than half of the window's places are held by pulls without space, the pull keeps its
    place and waits for `seconds`. Otherwise it gives its place back and waits for longer.
    """
    under_way = window.measure(tx)
    if under_way.without_space < under_way.size // 2:
        lifecycle.wait(tx, pull.id, "space", seconds, detail)
        return
    age_seconds = (lifecycle.clock(tx) - pull.created_at).total_seconds()
    delay_seconds = min(max(age_seconds / 4, _SHORTEST_DELAY_SECONDS), _LONGEST_DELAY_SECONDS)
    readmit_later(tx, pull.id, "space", delay_seconds, detail)


def _make_some_due() -> Update:
    waiting = (
        select(Pulls.id)
        .where(
            is_waiting(Pulls),
            waits_for(Pulls, "space"),
            Pulls.not_before > func.clock_timestamp(),
        )
        .order_by(*by_turn(Pulls))
        .limit(constant(10))
        .with_for_update(skip_locked=True)
        .subquery("waiting")
    )
    return (
        update(Pulls)
        .where(Pulls.id == waiting.c.id, by_key(is_waiting(Pulls)))
        .values(not_before=null())
    )


_MAKE_SOME_DUE = _make_some_due()


def wake_for_space(tx: Connection) -> None:
    """Make ten pulls that wait for space due at once. Call it after another one has found space.

    More than ten would be too many: most of them would find no space and wait again.
    """
    tx.execute(_MAKE_SOME_DUE)

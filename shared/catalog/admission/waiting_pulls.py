"""Waiting pulls: queued and not admitted. Admitted pulls may go back to waiting.

A pull that cannot be planned now, for lack of space or because its registry asked the fleet to
wait, gives its place in the window to another pull. It is admitted again once `not_before` has
passed.
"""

from datetime import timedelta

from sqlalchemy import text

from shared.catalog.admission import window
from shared.catalog.database.catalog import Connection
from shared.catalog.model.pull_rows import by_key
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import lifecycle

IS_WAITING = "state = 'queued' AND admitted_at IS NULL"
# Whether a waiting pull may be admitted: it has no time to wait for, or that time has passed.
IS_DUE = "(not_before IS NULL OR not_before <= clock_timestamp())"

_RETURN = text(
    f"""
    UPDATE pulls SET state = 'queued', admitted_at = NULL,
        not_before = statement_timestamp() + :delay,
        waiting_for = jsonb_build_object('cause', CAST(:cause AS text), 'detail',
            CAST(:detail AS text), 'until', statement_timestamp() + :delay)
    WHERE id = :pull_id AND {by_key("state IN ('queued', 'resolving')")}
    """
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

_FREE_FROM_SPACE = text(
    f"""
    UPDATE pulls SET not_before = NULL FROM (
        SELECT id FROM pulls WHERE {IS_WAITING} AND waiting_for->>'cause' = 'space'
          AND not_before > clock_timestamp()
        ORDER BY priority DESC, created_at LIMIT 10 FOR UPDATE SKIP LOCKED
    ) AS waiting
    WHERE pulls.id = waiting.id AND {by_key(f"pulls.{IS_WAITING}")}
    """
)


def wait_for_space(tx: Connection, pull: Pull, seconds: float, detail: str) -> None:
    """Make a pull wait because the volume has no room for it.

    It keeps its place in the window for `seconds`, or gives it back and waits for longer.
    """
    under_way = window.measure(tx)
    if under_way.without_space < under_way.size // 2:
        lifecycle.wait(tx, pull.id, "space", seconds, detail)
        return
    age_seconds = (lifecycle.clock(tx) - pull.created_at).total_seconds()
    delay_seconds = min(max(age_seconds / 4, _SHORTEST_DELAY_SECONDS), _LONGEST_DELAY_SECONDS)
    readmit_later(tx, pull.id, "space", delay_seconds, detail)


def wake_for_space(tx: Connection) -> None:
    """After a pull that waited for space has found some: make ten other waiting pulls due at once.

    Not all of them: most would find no space and wait again.
    """
    tx.execute(_FREE_FROM_SPACE)

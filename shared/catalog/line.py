"""The line: queued pulls that wait for their turn as rows. Some come back to it, to look later."""

from datetime import timedelta

from sqlalchemy import text

from shared.catalog import pulls, window
from shared.catalog.database import Connection
from shared.catalog.pull_rows import by_key
from shared.catalog.pull_values import Pull

IN_LINE = "state = 'queued' AND admitted_at IS NULL"
# Of a pull in the line: whether the time that it waits for has come.
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


def return_to_line(tx: Connection, pull_id: str, cause: str, seconds: float, detail: str) -> None:
    """An admitted pull whose layers are not asked for yet has to wait for this long: it gives its
    place back.
    """
    delay = timedelta(seconds=seconds)
    tx.execute(_RETURN, {"pull_id": pull_id, "cause": cause, "detail": detail, "delay": delay})


# The first ones keep their places and look again soon. The rest goes back to the line, and looks
# the more rarely the longer it has waited: otherwise thousands would be planned again every few
# seconds.
_SHORTEST_IN_LINE_SECONDS = 60.0
_LONGEST_IN_LINE_SECONDS = 900.0

_FREE_FROM_SPACE = text(
    f"""
    UPDATE pulls SET not_before = NULL FROM (
        SELECT id FROM pulls WHERE {IN_LINE} AND waiting_for->>'cause' = 'space'
          AND not_before > clock_timestamp()
        ORDER BY priority DESC, created_at LIMIT 10 FOR UPDATE SKIP LOCKED
    ) AS waiting
    WHERE pulls.id = waiting.id AND {by_key(f"pulls.{IN_LINE}")}
    """
)


def wait_for_space(tx: Connection, pull: Pull, seconds: float, detail: str) -> None:
    """The volume has no room for this pull now."""
    under_way = window.look(tx)
    if under_way.without_space < under_way.size // 2:
        pulls.wait(tx, pull.id, "space", seconds, detail)
        return
    age_seconds = (pulls.clock(tx) - pull.created_at).total_seconds()
    delay_seconds = min(max(age_seconds / 4, _SHORTEST_IN_LINE_SECONDS), _LONGEST_IN_LINE_SECONDS)
    return_to_line(tx, pull.id, "space", delay_seconds, detail)


def space_found(tx: Connection) -> None:
    """A pull that waited for space has found some: a few of the line may look at once, too."""
    tx.execute(_FREE_FROM_SPACE)

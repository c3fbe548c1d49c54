"""What one round of the reconciler looks at.

A round costs the same however many pulls are under way. It reads a page of admitted pulls by id, a
page of the layers that have a message, and the layers whose time to wait has just passed. Nothing
is missed for long:

- a layer that thousands of pulls want is found with every page;
- a layer that only one pull wants has a message or a time to wait for, and is found by that.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, SQLColumnExpression, bindparam, func, select, tuple_

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import interval
from shared.catalog.database.paging import first_rows
from shared.catalog.model.predicates import is_final, is_open, is_under_way, is_waiting
from shared.catalog.model.pull_tables import PullLayers, Pulls

BATCH = 500
WAITING_BATCH = 5000


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Whether there is work for the reconciler. An idle fleet costs this one query per round."""

    open: bool
    unanswered: bool
    # Layouts that may differ from the image's row: `layouts.py`.
    unsettled: bool = False

    @property
    def any(self) -> bool:
        """Whether there is work of any kind."""
        return self.open or self.unanswered or self.unsettled


def _any_pull(*conditions: SQLColumnExpression[bool]) -> ColumnElement[bool]:
    return select(Pulls.id).where(*conditions).exists()


_UNFINISHED = select(
    _any_pull(is_open(Pulls)),
    _any_pull(is_final(Pulls), Pulls.answered_at.is_(None)),
    _any_pull(is_final(Pulls), Pulls.layout_unsettled),
)


def unfinished(tx: Connection) -> Unfinished:
    """Whether any pull is open, has ended without an answer, or left an unsettled layout."""
    return Unfinished(*tx.execute(_UNFINISHED).one())


_UNDER_WAY = (
    select(Pulls.id).where(is_under_way(Pulls), Pulls.id > bindparam("after")).order_by(Pulls.id)
)
_WAITING = (
    select(Pulls.id).where(is_waiting(Pulls), Pulls.id > bindparam("after")).order_by(Pulls.id)
)


def under_way(tx: Connection, after: str = "") -> list[str]:
    """Return a page of the ids of admitted open pulls, in order, starting after `after`."""
    return list(tx.execute(first_rows(_UNDER_WAY, BATCH), {"after": after}).scalars())


def waiting(tx: Connection, after: str = "") -> list[str]:
    """Return a page of the ids of waiting pulls, in order, starting after `after`."""
    return list(tx.execute(first_rows(_WAITING, WAITING_BATCH), {"after": after}).scalars())


_WITH_MESSAGE = (
    select(PullLayers.digest, PullLayers.pull_id)
    .where(
        PullLayers.has_message,
        # The row comparison includes this one; the index is entered by this one.
        PullLayers.digest >= bindparam("digest"),
        tuple_(PullLayers.digest, PullLayers.pull_id)
        > tuple_(bindparam("digest"), bindparam("pull_id")),
    )
    .order_by(PullLayers.digest, PullLayers.pull_id)
)


def with_message(tx: Connection, after: tuple[str, str] = ("", "")) -> list[tuple[str, str]]:
    """Return a page of the layers that have a message, as digest and pull id, after `after`."""
    digest, pull_id = after
    rows = tx.execute(first_rows(_WITH_MESSAGE, BATCH), {"digest": digest, "pull_id": pull_id})
    return [(row.digest, row.pull_id) for row in rows]


# Rounds are seconds apart, so times before the last minute were seen before; what was missed is
# found with its page.
_WITH_PASSED_WAIT = (
    select(PullLayers.pull_id)
    .where(
        PullLayers.not_before.between(
            func.statement_timestamp() - interval("1 minute"), func.statement_timestamp()
        )
    )
    .order_by(PullLayers.not_before.desc())
)


def with_passed_wait(tx: Connection) -> list[str]:
    """Return pulls with a layer whose time to wait has passed within the last minute."""
    return list(tx.execute(first_rows(_WITH_PASSED_WAIT, BATCH)).scalars())

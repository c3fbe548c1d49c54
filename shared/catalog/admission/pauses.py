"""What an operator has paused: the fleet, a registry, or a requester.

A paused pull is not admitted and begins no step. Its downloads stop at the next heartbeat and keep
their bytes. `predicates.py` says which pulls a pause applies to.
"""

import shlex
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Update, bindparam, delete, func, null, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.database.expressions import constant, is_one_of
from shared.catalog.model.fleet_tables import Pauses
from shared.catalog.model.predicates import (
    FLEET_IS_PAUSED,
    SCOPE_IS_PAUSED,
    is_open,
    pause_applies,
)
from shared.catalog.model.pull_tables import PullLayers, Pulls
from shared.catalog.model.waiting_for import waits_for

# Pulls per transaction of `wake`.
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause that an operator has set.

    `scope`: fleet, registry or requester. `name`: which registry or requester; empty for the fleet.
    """

    scope: str
    name: str
    paused_at: datetime

    @property
    def sentence(self) -> str:
        """What is paused and the command that ends it, as in `waiting_for`."""
        if self.scope == "fleet":
            return FLEET_IS_PAUSED
        return SCOPE_IS_PAUSED.format(scope=self.scope, name=self.name)

    @property
    def subject(self) -> str:
        """What is paused: `the fleet`, `the registry ghcr.io`."""
        return subject_of(self.scope, self.name)

    @property
    def command(self) -> str:
        """The command that ends the pause, quoted for a shell."""
        option = "" if self.scope == "fleet" else f" --{self.scope} {shlex.quote(self.name)}"
        return f"towline resume{option}"


def subject_of(scope: str, name: str) -> str:
    """What a pause of this scope pauses, whether it is paused or not."""
    return "the fleet" if scope == "fleet" else f"the {scope} {name or repr(name)}"


_PAUSE = insert(Pauses).on_conflict_do_nothing().returning(Pauses.scope)


def pause(tx: Connection, scope: str, name: str = "") -> bool:
    """Pause a scope. False where it was paused before."""
    return tx.execute(_PAUSE, {"scope": scope, "name": name}).scalar() is not None


_RESUME = (
    delete(Pauses)
    .where(Pauses.scope == bindparam("scope"), Pauses.name == bindparam("name"))
    .returning(Pauses.scope)
)


def resume(tx: Connection, scope: str, name: str = "") -> bool:
    """End a pause. False where there was none. Call `wake` afterwards to wake what waits."""
    return tx.execute(_RESUME, {"scope": scope, "name": name}).scalar() is not None


# Admitted pulls come first. Waiting pulls have no time to wait for, only a reason to be cleared.
_MAY_WAIT = (
    select(Pulls.id)
    .where(is_open(Pulls), or_(Pulls.admitted_at.is_not(None), waits_for(Pulls, "paused")))
    .order_by(Pulls.admitted_at.is_(None), Pulls.id)
)


# Rows that another transaction has locked are skipped; they become due at their own time.
def _make_pulls_due() -> Update:
    due = (
        select(Pulls.id)
        .where(is_one_of(Pulls.id, "ids"), waits_for(Pulls, "paused"))
        .order_by(Pulls.id)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    return update(Pulls).where(Pulls.id == due.c.id).values(waiting_for=null(), not_before=null())


def _make_layers_due() -> Update:
    due = (
        select(PullLayers.pull_id, PullLayers.digest)
        .where(is_one_of(PullLayers.pull_id, "ids"), waits_for(PullLayers, "paused"))
        .order_by(PullLayers.pull_id, PullLayers.digest)
        .with_for_update(skip_locked=True)
        .cte("due")
    )
    return (
        update(PullLayers)
        .where(PullLayers.pull_id == due.c.pull_id, PullLayers.digest == due.c.digest)
        # Now instead of NULL: the reconciler finds layers whose time has just passed in its next
        # round, and others only with the page that their pull is on.
        .values(waiting_for=null(), not_before=func.statement_timestamp())
    )


_MAKE_PULLS_DUE, _MAKE_LAYERS_DUE = _make_pulls_due(), _make_layers_due()


def wake(catalog: Catalog) -> None:
    """Make due at once what waits for the end of a pause. Call it after `resume` is committed.

    Each batch is committed on its own. If one fails, its pulls become due at their own time, within
    a minute. Pulls to which another pause still applies wait again at their next attempt.
    """
    with catalog.begin() as tx:
        ids = list(tx.execute(_MAY_WAIT).scalars())
    for first in range(0, len(ids), _BATCH):
        with catalog.begin() as tx:
            for statement in (_MAKE_PULLS_DUE, _MAKE_LAYERS_DUE):
                tx.execute(statement, {"ids": ids[first : first + _BATCH]})


_ALL = select(Pauses.scope, Pauses.name, Pauses.paused_at)
_OLDEST_FIRST = _ALL.order_by(Pauses.paused_at)


def listing(tx: Connection) -> list[Pause]:
    """Return all pauses, oldest first."""
    return [Pause(**row._mapping) for row in tx.execute(_OLDEST_FIRST)]


_OF_PULL = (
    _ALL.join(Pulls, pause_applies(Pulls))
    .where(Pulls.id == bindparam("pull_id"))
    .order_by(Pauses.scope)
    .limit(constant(1))
)


def of_pull(tx: Connection, pull_id: str) -> Pause | None:
    """Return a pause that applies to this pull, the fleet's first; None where it is not paused."""
    row = tx.execute(_OF_PULL, {"pull_id": pull_id}).one_or_none()
    return Pause(**row._mapping) if row else None

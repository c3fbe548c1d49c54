"""What an operator has paused: the fleet, a registry, or a requester.

A paused pull is not admitted and begins no step. Its downloads stop at the next heartbeat and keep
their bytes.
"""

import shlex
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert

from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.model.fleet_tables import pauses
from shared.catalog.model.pull_tables import OPEN

# Pulls per transaction of `wake`.
_BATCH = 1000

# The pauses that apply to the pull `p`; the statement around it must use that alias.
_APPLYING = """pauses WHERE pauses.scope = 'fleet'
    OR pauses.scope = 'registry' AND pauses.name = p.registry
    OR pauses.scope = 'requester' AND pauses.name = coalesce(p.requested_by, '')"""
IS_PAUSED = f"EXISTS (SELECT FROM {_APPLYING})"
# The text of `Pause.sentence`, which must stay the same; NULL where the pull `p` is not paused.
PAUSED_SENTENCE = f"""(
    SELECT CASE pauses.scope WHEN 'fleet' THEN 'the fleet is paused: run `towline resume`'
        ELSE 'the ' || pauses.scope || ' ' || pauses.name || ' is paused: run `towline resume --'
            || pauses.scope || ' ' || pauses.name || '`' END
    FROM {_APPLYING} ORDER BY pauses.scope LIMIT 1
)"""


@dataclass(frozen=True, slots=True)
class Pause:
    """`scope`: fleet, registry or requester; `name`: which of them, empty for the fleet."""

    scope: str
    name: str
    paused_at: datetime

    @property
    def sentence(self) -> str:
        """What is paused and the command that ends it, as in `waiting_for`."""
        if self.scope == "fleet":
            return "the fleet is paused: run `towline resume`"
        command = f"towline resume --{self.scope} {self.name}"
        return f"the {self.scope} {self.name} is paused: run `{command}`"

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


def pause(tx: Connection, scope: str, name: str = "") -> bool:
    """Pause a scope. False where it was paused before."""
    statement = insert(pauses).values(scope=scope, name=name).on_conflict_do_nothing()
    return tx.execute(statement.returning(pauses.c.scope)).scalar() is not None


def resume(tx: Connection, scope: str, name: str = "") -> bool:
    """End a pause. False where there was none. Call `wake` afterwards to wake what waits."""
    statement = delete(pauses).where(pauses.c.scope == scope, pauses.c.name == name)
    return tx.execute(statement.returning(pauses.c.scope)).scalar() is not None


# Admitted pulls come first. Waiting pulls have no time to wait for, only a reason to be cleared.
_MAY_WAIT = text(
    f"""
    SELECT id FROM pulls
    WHERE {OPEN} AND (admitted_at IS NOT NULL OR waiting_for->>'cause' = 'paused')
    ORDER BY admitted_at IS NULL, id
    """
)

# Rows that another transaction has locked are skipped; they become due at their own time.
_MAKE_PULLS_DUE = text("""
    WITH due AS (
        SELECT id FROM pulls
        WHERE id = ANY(CAST(:ids AS text[])) AND waiting_for->>'cause' = 'paused'
        ORDER BY id FOR UPDATE SKIP LOCKED
    )
    UPDATE pulls SET waiting_for = NULL, not_before = NULL FROM due WHERE pulls.id = due.id
""")
_MAKE_LAYERS_DUE = text("""
    WITH due AS (
        SELECT pull_id, digest FROM pull_layers
        WHERE pull_id = ANY(CAST(:ids AS text[])) AND waiting_for->>'cause' = 'paused'
        ORDER BY pull_id, digest FOR UPDATE SKIP LOCKED
    )
    -- Now instead of NULL: the reconciler finds layers whose time has just passed in its next
    -- round, and others only with the page that their pull is on.
    UPDATE pull_layers SET waiting_for = NULL, not_before = statement_timestamp() FROM due
    WHERE pull_layers.pull_id = due.pull_id AND pull_layers.digest = due.digest
""")


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


def listing(tx: Connection) -> list[Pause]:
    """Return all pauses, oldest first."""
    rows = tx.execute(select(pauses).order_by(pauses.c.paused_at))
    return [Pause(**row._mapping) for row in rows]


def of_pull(tx: Connection, pull_id: str) -> Pause | None:
    """Return a pause that applies to this pull, the fleet's first; None where it is not paused."""
    row = tx.execute(
        text(
            """
            SELECT pauses.scope, pauses.name, pauses.paused_at FROM pauses JOIN pulls ON
                pauses.scope = 'fleet'
                OR pauses.scope = 'registry' AND pauses.name = pulls.registry
                OR pauses.scope = 'requester' AND pauses.name = coalesce(pulls.requested_by, '')
            WHERE pulls.id = :pull_id ORDER BY pauses.scope LIMIT 1
            """
        ),
        {"pull_id": pull_id},
    ).one_or_none()
    return Pause(**row._mapping) if row else None

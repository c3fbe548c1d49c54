"""What an operator has paused: the fleet, a registry, or a requester."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert

from shared.catalog.database import Catalog, Connection
from shared.catalog.fleet_tables import pauses
from shared.catalog.pull_tables import OPEN

# Rows of a step.
_AT_ONCE = 1000

# What holds the pull `p`, for statements that name it so.
_HOLDING = """pauses WHERE pauses.scope = 'fleet'
    OR pauses.scope = 'registry' AND pauses.name = p.registry
    OR pauses.scope = 'requester' AND pauses.name = coalesce(p.requested_by, '')"""
IS_PAUSED = f"EXISTS (SELECT FROM {_HOLDING})"
# As `Pause.sentence` says it, NULL where nothing is paused.
PAUSED_SENTENCE = f"""(
    SELECT CASE pauses.scope WHEN 'fleet' THEN 'the fleet is paused: `towline resume` ends that'
        ELSE 'the ' || pauses.scope || ' ' || pauses.name || ' is paused: `towline resume --'
            || pauses.scope || ' ' || pauses.name || '` ends that' END
    FROM {_HOLDING} ORDER BY pauses.scope LIMIT 1
)"""


@dataclass(frozen=True, slots=True)
class Pause:
    """`scope`: fleet, registry or requester; `name`: which, empty for the fleet."""

    scope: str
    name: str
    paused_at: datetime

    @property
    def sentence(self) -> str:
        """What is paused, for people, and how it ends."""
        if self.scope == "fleet":
            return "the fleet is paused: `towline resume` ends that"
        command = f"towline resume --{self.scope} {self.name}"
        return f"the {self.scope} {self.name} is paused: `{command}` ends that"


def pause(tx: Connection, scope: str, name: str = "") -> bool:
    """Pause it; False when it was paused already."""
    statement = insert(pauses).values(scope=scope, name=name).on_conflict_do_nothing()
    return tx.execute(statement.returning(pauses.c.scope)).scalar() is not None


def resume(tx: Connection, scope: str, name: str = "") -> bool:
    """Let it go on; False when it was not paused. `go_on` tells those that wait."""
    statement = delete(pauses).where(pauses.c.scope == scope, pauses.c.name == name)
    return tx.execute(statement.returning(pauses.c.scope)).scalar() is not None


# Those under way first; in the line there is no time to wait for, only a reason that is told.
_MAY_WAIT = text(
    f"""
    SELECT id FROM pulls
    WHERE {OPEN} AND (admitted_at IS NOT NULL OR waiting_for->>'cause' = 'paused')
    ORDER BY admitted_at IS NULL, id
    """
)

# A row that another transaction works on is left to that one.
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
    -- Due now, not NULL: the reconciler's next look finds what has just become due.
    UPDATE pull_layers SET waiting_for = NULL, not_before = statement_timestamp() FROM due
    WHERE pull_layers.pull_id = due.pull_id AND pull_layers.digest = due.digest
""")


def go_on(catalog: Catalog) -> None:
    """After `resume`: what waits for the end of a pause is due at once.

    In steps, each committed: what is left when one fails is due at its own time, within a minute.
    What another pause still holds is told so when it tries.
    """
    with catalog.begin() as tx:
        ids = list(tx.execute(_MAY_WAIT).scalars())
    for step in range(0, len(ids), _AT_ONCE):
        with catalog.begin() as tx:
            for statement in (_MAKE_PULLS_DUE, _MAKE_LAYERS_DUE):
                tx.execute(statement, {"ids": ids[step : step + _AT_ONCE]})


def listing(tx: Connection) -> list[Pause]:
    """Everything that is paused, oldest first."""
    rows = tx.execute(select(pauses).order_by(pauses.c.paused_at))
    return [Pause(**row._mapping) for row in rows]


def of_pull(tx: Connection, pull_id: str) -> Pause | None:
    """What keeps this pull from going on."""
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

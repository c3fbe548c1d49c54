"""What an operator has paused: the fleet, a registry, or a requester."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select, text
from sqlalchemy.dialects.postgresql import insert

from shared.catalog.database import Connection
from shared.catalog.fleet_tables import pauses

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
    """Let it go on, at once; False when it was not paused."""
    statement = delete(pauses).where(pauses.c.scope == scope, pauses.c.name == name)
    if tx.execute(statement.returning(pauses.c.scope)).scalar() is None:
        return False
    # What another pause still holds is told so when it tries.
    for table in ("pulls", "pull_layers"):
        tx.execute(
            text(
                f"""
                UPDATE {table} SET waiting_for = NULL, not_before = NULL
                WHERE waiting_for->>'cause' = 'paused'
                """
            )
        )
    return True


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

"""The tables of the fleet itself: step leases, pauses, registry holds, nodes and slots."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from shared.catalog.model.tables import Counter, Recorded, Size, table

SCOPES = ("fleet", "registry", "requester")
_SCOPES = ", ".join(f"'{scope}'" for scope in SCOPES)


@table
class StepLeases:
    """A lease on work that is no download.

    `pull/<id>` while a pull is resolved or linked, `reconciler` for the leader among the
    reconcilers.
    """

    __tablename__ = "step_leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str]
    fence: Mapped[int] = mapped_column(BigInteger, index=True)
    expires_at: Mapped[datetime]
    starts_without_progress: Mapped[Counter]


@table
class Pauses:
    """What an operator has paused. `name`: the registry or requester; empty for the fleet."""

    __tablename__ = "pauses"

    scope: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    paused_at: Mapped[Recorded]

    __table_args__ = (CheckConstraint(f"scope IN ({_SCOPES})", name="scope"),)


@table
class RegistryHolds:
    """A registry that asked the fleet to wait, such as by a 429.

    Its pulls are not admitted before `until`.
    """

    __tablename__ = "registry_holds"

    registry: Mapped[str] = mapped_column(primary_key=True)
    until: Mapped[datetime]
    detail: Mapped[str]


@table
class Nodes:
    """A worker, which writes its own row every 10 seconds.

    `reason`: one sentence why it is sick; NULL while it is well.
    """

    __tablename__ = "nodes"

    name: Mapped[str] = mapped_column(primary_key=True)
    seen_at: Mapped[datetime]
    state: Mapped[str]
    reason: Mapped[str | None]
    version: Mapped[str]
    slots: Mapped[int]
    free_bytes: Mapped[Size | None]
    free_inodes: Mapped[Size | None]

    __table_args__ = (CheckConstraint("state IN ('well', 'sick')", name="state"),)


@table
class SchemaCompatibility:
    """A revision of the schema. The migrations write it.

    `oldest_reader`: the oldest version of the code that can work on a database at `revision`, named
    by the newest migration of that version.
    """

    __tablename__ = "schema_compatibility"

    revision: Mapped[str] = mapped_column(primary_key=True)
    oldest_reader: Mapped[str]


@table
class Fleet:
    """One row: what the reconciler last saw of the fleet.

    Workers read it when they admit pulls and start layers. `layer_slots`: how many layers can be
    fetched at once; NULL while that is unknown. `broker_epoch`: the value of a key that the
    reconciler keeps in Redis; if the key is gone, Redis lost its data. `broker_run_id`: the run_id
    of the Redis server that was seen last; after a restart or a failover it is another one, and the
    newest writes may be lost.
    """

    __tablename__ = "fleet"

    singleton: Mapped[bool] = mapped_column(primary_key=True, server_default=text("true"))
    layer_slots: Mapped[int | None] = mapped_column(BigInteger)
    pull_slots: Mapped[int | None] = mapped_column(BigInteger)
    counted_at: Mapped[datetime | None]
    broker_epoch: Mapped[str | None]
    broker_run_id: Mapped[str | None]

    __table_args__ = (CheckConstraint("singleton", name="singleton"),)

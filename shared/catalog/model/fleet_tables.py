"""The tables of the fleet itself: step leases, pauses, registry holds, nodes and slots."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Integer,
    Table,
    Text,
    text,
)

from shared.catalog.model.columns import count_column, metadata, text_column, time_column

# Leases on work that is no download: `pull/<id>` while a pull is resolved or linked, `reconciler`
# for the leader among the reconcilers.
step_leases = Table(
    "step_leases",
    metadata,
    Column("name", Text, primary_key=True),
    text_column("owner", required=True),
    Column("fence", BigInteger, nullable=False, index=True),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    count_column("starts_without_progress"),
)

SCOPES = ("fleet", "registry", "requester")
_SCOPES = ", ".join(f"'{scope}'" for scope in SCOPES)

# `name`: the registry or requester; empty for the whole fleet.
pauses = Table(
    "pauses",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    time_column("paused_at", now=True),
    CheckConstraint(f"scope IN ({_SCOPES})", name="scope"),
)

# Registries that asked the fleet to wait, such as by a 429: their pulls are not admitted until
# then.
registry_holds = Table(
    "registry_holds",
    metadata,
    Column("registry", Text, primary_key=True),
    Column("until", DateTime(timezone=True), nullable=False),
    text_column("detail", required=True),
)

# One row per worker, which it writes itself every 10 seconds.
nodes = Table(
    "nodes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("seen_at", DateTime(timezone=True), nullable=False),
    Column("state", Text, nullable=False),
    # Why it is sick, one sentence; NULL while it is well.
    text_column("reason"),
    text_column("version", required=True),
    Column("slots", Integer, nullable=False),
    Column("free_bytes", BigInteger),
    Column("free_inodes", BigInteger),
    CheckConstraint("state IN ('well', 'sick')", name="state"),
)

# Written by the migrations. `oldest_reader`: the oldest version of the code that can work on a
# database at `revision`, named by the newest migration of that version.
schema_compatibility = Table(
    "schema_compatibility",
    metadata,
    Column("revision", Text, primary_key=True),
    text_column("oldest_reader", required=True),
)

# What the reconciler last saw of the fleet. Workers read it when they admit pulls and start layers.
fleet = Table(
    "fleet",
    metadata,
    Column("singleton", Boolean, primary_key=True, server_default=text("true")),
    # How many layers can be fetched at once; NULL while that is unknown.
    Column("layer_slots", BigInteger),
    Column("pull_slots", BigInteger),
    time_column("looked_at"),
    # The value of a key that the reconciler keeps in Redis. If the key is gone, Redis lost its
    # data.
    text_column("broker_epoch"),
    # The run_id of the Redis server that was seen last: after a restart or a failover it is another
    # one, and the newest writes may be lost.
    text_column("broker_run_id"),
    CheckConstraint("singleton", name="singleton"),
)

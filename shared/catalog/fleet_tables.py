"""The tables of the fleet itself: who is at work on a step, what is paused, how many slots."""

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

from shared.catalog.columns import count_column, metadata, text_column, time_column

# Work that is no download: `pull/<id>` while a pull is resolved or linked, `reconciler` for the one
# that is in office.
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

# `name`: which registry or requester; empty for the fleet.
pauses = Table(
    "pauses",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    time_column("paused_at", now=True),
    CheckConstraint(f"scope IN ({_SCOPES})", name="scope"),
)

# Registries that asked the fleet to wait, such as by a 429: their pulls stay in the line.
registry_holds = Table(
    "registry_holds",
    metadata,
    Column("registry", Text, primary_key=True),
    Column("until", DateTime(timezone=True), nullable=False),
    text_column("detail", required=True),
)

# One row a worker, which it writes itself every 10 seconds.
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

# Written by the migrations. `oldest_reader`: the oldest version of the code, by the revision that
# it was made for, which can work on a database that stands at `revision`.
schema_compatibility = Table(
    "schema_compatibility",
    metadata,
    Column("revision", Text, primary_key=True),
    text_column("oldest_reader", required=True),
)

# What the reconciler last saw of the fleet; workers read it when they choose what goes next.
fleet = Table(
    "fleet",
    metadata,
    Column("singleton", Boolean, primary_key=True, server_default=text("true")),
    # How many layers can be fetched at once; NULL while nobody could tell.
    Column("layer_slots", BigInteger),
    Column("pull_slots", BigInteger),
    time_column("looked_at"),
    # A key of this value stands in Redis. When it is gone, Redis has lost everything.
    text_column("broker_epoch"),
    # Which run of the Redis server was seen last: another one may have lost the newest writes.
    text_column("broker_run_id"),
    CheckConstraint("singleton", name="singleton"),
)

"""Builders for the columns of the tables, and how constraints and indexes are named."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Integer,
    MetaData,
    Text,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    }
)


def id_column() -> Column[int]:
    """Return the surrogate primary key `id`."""
    return Column("id", BigInteger, Identity(), primary_key=True)


def time_column(name: str, *, now: bool = False) -> Column[datetime]:
    """Return a timestamp with time zone, NULL by default.

    `now`: required, and set when the row is inserted.
    """
    if now:
        return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())
    return Column(name, DateTime(timezone=True))


def json_column(name: str, *, required: bool = False) -> Column[Any]:
    """Return a jsonb column."""
    # Python's None is SQL's NULL here, never JSON's null: statements test IS NULL.
    return Column(name, JSONB(none_as_null=True), nullable=not required)


def size_column(name: str = "size_bytes", *, required: bool = True) -> Column[int]:
    """Return a size in bytes."""
    return Column(name, BigInteger, nullable=not required)


def count_column(name: str) -> Column[int]:
    """Return a counter that starts at 0."""
    return Column(name, Integer, nullable=False, server_default="0")


def text_column(name: str, *, required: bool = False) -> Column[str]:
    """Return a text column, NULL by default unless `required`."""
    return Column(name, Text, nullable=not required)

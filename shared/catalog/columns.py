"""The columns that tables are made of, and the names of their constraints."""

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
    """A key of our own."""
    return Column("id", BigInteger, Identity(), primary_key=True)


def time_column(name: str, *, now: bool = False) -> Column[datetime]:
    """A time with its zone; `now`: when the row was made."""
    if now:
        return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())
    return Column(name, DateTime(timezone=True))


def json_column(name: str, *, required: bool = False) -> Column[Any]:
    """Lists and objects as in a document."""
    # None is SQL's NULL, never JSON's: readers ask IS NULL.
    return Column(name, JSONB(none_as_null=True), nullable=not required)


def size_column(name: str = "size_bytes", *, required: bool = True) -> Column[int]:
    """A size in bytes."""
    return Column(name, BigInteger, nullable=not required)


def count_column(name: str) -> Column[int]:
    """A count from 0."""
    return Column(name, Integer, nullable=False, server_default="0")


def text_column(name: str, *, required: bool = False) -> Column[str]:
    """A text."""
    return Column(name, Text, nullable=not required)

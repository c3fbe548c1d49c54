"""What every table declares alike: types of columns, and how constraints and indexes are named.

A table is a class of typed columns: `Pulls.state`. It is never instantiated, and there is no
session: statements are SQLAlchemy Core and run on a connection. `aliased(Pulls, name="other")`
names a second row of the table, and every predicate takes the class or an alias.
"""

import warnings
from datetime import datetime
from typing import Annotated, Any, TypeVar

from sqlalchemy import BigInteger, DateTime, Identity, MetaData, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import mapped_column, registry

Class = TypeVar("Class")

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    }
)
_registry = registry(
    metadata=metadata,
    type_annotation_map={str: Text, datetime: DateTime(timezone=True)},
)


def table(declared: type[Class]) -> type[Class]:
    """Declare a class as a table."""
    with warnings.catch_warnings():
        # Some of the tables have a column of that name. SQLAlchemy needs it for itself only in
        # subclasses of its DeclarativeBase, which these are not.
        warnings.filterwarnings("ignore", "Attribute name 'registry' should be left reserved")
        return _registry.mapped(declared)


SurrogateKey = Annotated[int, mapped_column(BigInteger, Identity(), primary_key=True)]
Size = Annotated[int, mapped_column(BigInteger)]
"""Bytes."""
Counter = Annotated[int, mapped_column(server_default="0")]
Progress = Annotated[int, mapped_column(BigInteger, server_default="0")]
"""Bytes that are there already."""
Recorded = Annotated[datetime, mapped_column(server_default=func.now())]
"""When the row was inserted."""
# Python's None is SQL's NULL here, never JSON's null: statements test IS NULL.
Json = Annotated[Any, mapped_column(JSONB(none_as_null=True), nullable=False)]
OptionalJson = Annotated[Any, mapped_column(JSONB(none_as_null=True), nullable=True)]

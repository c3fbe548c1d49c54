"""Parsing of TOWLINE_DATABASE_URL into the form that SQLAlchemy and psycopg accept."""

from psycopg import pq
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from shared.errors import InvalidArgument
from shared.service_urls import database_url

# Parameters of psycopg, in addition to those of libpq.
_PSYCOPG_PARAMETERS = {"autocommit", "prepare_threshold"}


def read_url(text: str) -> URL:
    """Parse the URL. Raises InvalidArgument, whose text never holds a part of the password."""
    try:
        url = make_url(database_url(text))
    except (ArgumentError, ValueError):
        # `from None`: the cause holds the URL with its password.
        raise InvalidArgument(
            "TOWLINE_DATABASE_URL cannot be used: it is no URL of the form "
            "postgresql://user:password@host:port/database."
        ) from None
    options = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    unknown = sorted(set(url.query) - options - _PSYCOPG_PARAMETERS)
    if unknown:
        raise InvalidArgument(
            f"TOWLINE_DATABASE_URL cannot be used: remove {', '.join(unknown)}, which PostgreSQL's "
            "client library does not know."
        )
    return url

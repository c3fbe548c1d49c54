"""The database's URL as SQLAlchemy and psycopg take it."""

from psycopg import pq
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from shared.errors import InvalidArgument
from shared.service_urls import database_url

# What psycopg takes beside libpq's own.
_OF_THE_DRIVER = {"autocommit", "prepare_threshold"}


def read_url(text: str) -> URL:
    """Raises InvalidArgument without a piece of the password."""
    try:
        url = make_url(database_url(text))
    except (ArgumentError, ValueError):
        # No `from`: the cause holds the URL with its password.
        raise InvalidArgument("TOWLINE_DATABASE_URL cannot be read as a URL.") from None
    options = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    unknown = sorted(set(url.query) - options - _OF_THE_DRIVER)
    if unknown:
        raise InvalidArgument(
            "TOWLINE_DATABASE_URL cannot be used: PostgreSQL's client library knows no parameter "
            f"{', '.join(unknown)}."
        )
    return url

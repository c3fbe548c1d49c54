"""Errors of PostgreSQL that are no outage, as a sentence for the operator who ran a command.

The command line shows it and ends. Workers retry such a statement, since the missing permission may
be granted in the meantime.
"""

from sqlalchemy.exc import DBAPIError


def explain_refusal(error: BaseException) -> str | None:
    """Return what to do about an error of the database; None for an error of another kind.

    Outages never get here: `Catalog.begin` has turned them into CatalogUnavailable.
    """
    if not isinstance(error, DBAPIError):
        return None
    return (
        f"The database refused a statement ({server_message(error)}): grant the user of "
        "TOWLINE_DATABASE_URL the missing permission. PostgreSQL's log shows the statement."
    )


def server_message(error: DBAPIError) -> str:
    """Return the first line of PostgreSQL's own message, with its SQLSTATE.

    That line holds no values of rows and no password, so it may be logged; the lines after it may
    hold values.
    """
    state: str | None = getattr(error.orig, "sqlstate", None)
    first, *_ = str(error.orig).splitlines() or [type(error.orig).__name__]
    return f"{state}: {first.strip()}" if state else first.strip()

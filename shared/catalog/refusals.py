"""What PostgreSQL refuses for good, as a sentence for the operator who typed a command.

Workers try such a statement again: what was missing may have been granted since.
"""

from sqlalchemy.exc import DBAPIError


def refusal(error: BaseException) -> str | None:
    """What to do about an error of the database that is no outage; None for any other error."""
    if not isinstance(error, DBAPIError):
        return None
    return (
        f"The database refused a statement ({said(error)}): grant the user of "
        "TOWLINE_DATABASE_URL what it lacks; PostgreSQL's log has the statement."
    )


def said(error: DBAPIError) -> str:
    """PostgreSQL's own first line, with its code. It holds no value of a row and no password."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    first, *_ = str(error.orig).splitlines() or [type(error.orig).__name__]
    return f"{state}: {first.strip()}" if state else first.strip()

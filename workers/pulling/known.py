"""Pulls by an id from outside, which may be any text."""

from shared.catalog import pulls
from shared.catalog.database import Connection
from shared.catalog.pull_values import Pull
from shared.errors import InvalidArgument
from workers.contract import is_pull_id


def known(tx: Connection, pull_id: str) -> Pull:
    """The pull of this id. Raises InvalidArgument where there is none."""
    # PostgreSQL would refuse text that it cannot hold.
    pull = pulls.get(tx, pull_id) if is_pull_id(pull_id) else None
    if pull is None:
        raise unknown(pull_id)
    return pull


def unknown(pull_id: str) -> InvalidArgument:
    """That there is no such pull. Bytes of its id that are no text are shown as escapes."""
    shown = pull_id.encode(errors="backslashreplace").decode()
    return InvalidArgument(f"There is no pull {shown}: `towline status` lists them.")

"""Ids of pulls as arguments: bytes that are no text name no pull."""

from shared.errors import InvalidArgument
from workers.contract import is_pull_id


def possible_id(value: str) -> str:
    """The id, for click's `type`. Raises InvalidArgument for what no row can have as its id."""
    if not is_pull_id(value):
        shown = value.encode(errors="backslashreplace").decode()
        raise InvalidArgument(f"There is no pull {shown}: `towline status` lists them.")
    return value

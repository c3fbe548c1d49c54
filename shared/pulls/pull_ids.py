"""Pull ids. They come from outside and may be any string."""

from shared.catalog.database.catalog import Connection
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import lifecycle
from shared.errors import InvalidArgument

# Width of the column for pull ids. Celery's own ids have 36 characters.
PULL_ID_CHARACTERS = 155


def is_pull_id(text: str) -> bool:
    """Whether a pull's row can have this id."""
    return len(text) <= PULL_ID_CHARACTERS and is_storable(text)


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can hold this string: it has no NUL and no lone surrogate."""
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)


def find_pull(tx: Connection, pull_id: str) -> Pull:
    """The pull with this id. Raises InvalidArgument if there is none."""
    # PostgreSQL raises for a string that it cannot hold, so such an id is not looked up.
    pull = lifecycle.get(tx, pull_id) if is_pull_id(pull_id) else None
    if pull is None:
        raise no_such_pull(pull_id)
    return pull


def no_such_pull(pull_id: str) -> InvalidArgument:
    """The error for an id without a pull. Bytes of the id that do not decode appear as escapes."""
    shown = pull_id.encode(errors="backslashreplace").decode()
    return InvalidArgument(f"There is no pull {shown}: `towline status` lists the pulls.")

"""Pulls by the beginning of their id, as a terminal shows it.

A whole id always means that pull, even if other ids begin with it. Only the command line knows
prefixes: on the wire and in the catalog an id is always whole.
"""

import re
from collections.abc import Iterable
from itertools import pairwise

from shared.catalog.database.catalog import Catalog
from shared.catalog.pulls import lifecycle, listings
from shared.errors import InvalidArgument
from shared.pulls.pull_ids import is_pull_id

SHORTEST_PREFIX = 8
_LISTED = 5
_UUID_CHARACTERS = 36
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{0,4}){0,3}(-[0-9a-f]{0,12})?")


def whole_id(catalog: Catalog, text: str) -> str:
    """The id of the only pull whose id begins with `text`; `text` itself if there is none.

    Raises InvalidArgument, with the candidates, if there are several.
    """
    if len(text) < SHORTEST_PREFIX or is_uuid(text) or not is_pull_id(text):
        return text
    with catalog.begin() as tx:
        if lifecycle.get(tx, text) is not None:
            return text
        found = listings.beginning_with(tx, text, _LISTED + 1)
    if len(found) > 1:
        raise InvalidArgument(_ambiguous(text, found))
    return found[0] if found else text


def _ambiguous(prefix: str, found: list[str]) -> str:
    listed = ", ".join(found[:_LISTED])
    more = ", and more" if len(found) > _LISTED else ""
    return f"{prefix} is the beginning of several pull ids: {listed}{more}. Write more of the id."


def is_uuid(text: str) -> bool:
    """Whether this is a whole UUID, and so no prefix of another id."""
    return len(text) == _UUID_CHARACTERS and begins_uuid(text)


def begins_uuid(text: str) -> bool:
    """Whether this is a UUID, or its beginning of at least 8 characters."""
    return _UUID.fullmatch(text) is not None


def short_ids(ids: Iterable[str]) -> list[str]:
    """The shortest prefixes, of at least 8 characters, that tell these ids apart."""
    listed = list(ids)
    ordered = sorted(set(listed))
    lengths: dict[str, int] = dict.fromkeys(ordered, SHORTEST_PREFIX)
    for before, after in pairwise(ordered):
        needed = _common(before, after) + 1
        lengths[before] = max(lengths[before], needed)
        lengths[after] = max(lengths[after], needed)
    return [text[: lengths[text]] for text in listed]


def _common(first: str, second: str) -> int:
    """How many characters two texts have in common at their beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(first), len(second)))

"""JSON of strangers: read into what PostgreSQL can hold, or refused with a typed error."""

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from shared.errors import InvalidManifest
from shared.oci.descriptor import MAX_SIZE

_MAX_DEPTH = 100
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def parse_object(raw: bytes, kind: str) -> Mapping[str, Any]:
    """The JSON object in `raw`; `kind` names it in the error. Raises InvalidManifest."""
    try:
        document = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidManifest(f"The {kind} is not JSON.") from error
    if not isinstance(document, dict):
        raise InvalidManifest(f"The {kind} is no JSON object.")
    _check(document, kind)
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check(document: Any, kind: str) -> None:
    """Walk without recursion: depth is what is being checked."""
    open_values = [(document, 1)]
    while open_values:
        value, depth = open_values.pop()
        if depth > _MAX_DEPTH:
            raise InvalidManifest(f"The {kind} is nested more than {_MAX_DEPTH} deep.")
        if isinstance(value, dict):
            open_values += [(key, depth) for key in value]
            open_values += [(child, depth + 1) for child in value.values()]
        elif isinstance(value, list):
            open_values += [(child, depth + 1) for child in value]
        elif isinstance(value, str):
            _check_text(value, kind)
        elif isinstance(value, int | float) and not -MAX_SIZE - 1 <= value <= MAX_SIZE:
            raise InvalidManifest(f"The {kind} holds a number that is too large.")


def _check_text(text: str, kind: str) -> None:
    if _NO_TEXT.search(text):
        raise InvalidManifest(f"The {kind} holds a character that no text may hold.")

"""Parses untrusted JSON. Whatever passes can be stored in PostgreSQL as jsonb."""

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from shared.errors import InvalidManifest
from shared.oci.descriptor import MAX_SIZE

_MAX_DEPTH = 100
# NUL and lone surrogates.
_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")


def parse_object(raw: bytes, kind: str) -> Mapping[str, Any]:
    """The JSON object in `raw`. `kind` names the document in errors. Raises InvalidManifest."""
    try:
        document = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidManifest(f"The {kind} is not JSON.") from error
    if not isinstance(document, dict):
        raise InvalidManifest(f"The {kind} is not a JSON object.")
    _check(document, kind)
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _check(document: Any, kind: str) -> None:
    """Check every value. Not recursive, because the depth of the document is not known yet."""
    unchecked = [(document, 1)]
    while unchecked:
        value, depth = unchecked.pop()
        if depth > _MAX_DEPTH:
            raise InvalidManifest(f"The {kind} is nested more than {_MAX_DEPTH} levels deep.")
        if isinstance(value, dict):
            unchecked += [(key, depth) for key in value]
            unchecked += [(child, depth + 1) for child in value.values()]
        elif isinstance(value, list):
            unchecked += [(child, depth + 1) for child in value]
        elif isinstance(value, str):
            _check_text(value, kind)
        elif isinstance(value, int | float) and not -MAX_SIZE - 1 <= value <= MAX_SIZE:
            raise InvalidManifest(f"The {kind} contains a number that is too large.")


def _check_text(text: str, kind: str) -> None:
    if _NOT_STORABLE.search(text):
        raise InvalidManifest(f"The {kind} contains a NUL or an invalid Unicode character.")

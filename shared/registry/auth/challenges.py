"""Parses `WWW-Authenticate`, the challenges of a 401. Source: RFC 9110 §11.6.1."""

import re
from dataclasses import dataclass, field

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"?|([^\s,"]*))')
_SCHEME = re.compile(_WORD)
_GAP = re.compile(r"[\s,]*")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a header. `scheme` and the keys of `parameters` are lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges of a header, or of several headers joined by commas.

    Never raises: what cannot be read is skipped.
    """
    challenges: list[Challenge] = []
    position = 0
    while (position := _skip_gap(header, position)) < len(header):
        parameter = _PARAMETER.match(header, position)
        if parameter and challenges:
            key, quoted, bare = parameter.groups()
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
            challenges[-1].parameters.setdefault(key.lower(), value)
            position = parameter.end()
        elif scheme := _SCHEME.match(header, position):
            challenges.append(Challenge(scheme[0].lower()))
            position = scheme.end()
        else:
            position += 1
    return challenges


def asks_for_more_scope(challenge_header: str) -> bool:
    """Whether the token was valid but lacked a scope. The challenge then
    names the scope, so that a token with it can be requested.
    """
    return any(
        challenge.parameters.get("error") == "insufficient_scope"
        for challenge in parse_challenges(challenge_header)
    )


def _skip_gap(header: str, position: int) -> int:
    gap = _GAP.match(header, position)
    return gap.end() if gap else position

"""`WWW-Authenticate`: what a registry wants before it answers. Source: RFC 9110 §11.6.1."""

import re
from dataclasses import dataclass, field

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'({_WORD})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"?|([^\s,"]*))')
_SCHEME = re.compile(_WORD)
_GAP = re.compile(r"[\s,]*")


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge. `scheme` and the parameters' keys are lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges of a header, or of several joined by commas. Junk is skipped, never raised."""
    challenges: list[Challenge] = []
    at = 0
    while (at := _skip_gap(header, at)) < len(header):
        parameter = _PARAMETER.match(header, at)
        if parameter and challenges:
            key, quoted, bare = parameter.groups()
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
            challenges[-1].parameters.setdefault(key.lower(), value)
            at = parameter.end()
        elif scheme := _SCHEME.match(header, at):
            challenges.append(Challenge(scheme[0].lower()))
            at = scheme.end()
        else:
            at += 1
    return challenges


def _skip_gap(header: str, at: int) -> int:
    gap = _GAP.match(header, at)
    return gap.end() if gap else at

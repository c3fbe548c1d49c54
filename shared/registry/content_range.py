"""Content-Range: which bytes a response brings. Source: RFC 9110 §14.4."""

import re
from dataclasses import dataclass

import requests

_CONTENT_RANGE = re.compile(r"bytes[ \t]+(\d+)-(\d+)/(\d+|\*)", re.ASCII | re.IGNORECASE)
_UNSATISFIED = re.compile(r"bytes[ \t]+\*/(\d+)", re.ASCII | re.IGNORECASE)
_MAX_DIGITS = 19


@dataclass(frozen=True, slots=True)
class ContentRange:
    """The header of a 206: `bytes first-last/total`.

    `first`, `last`: positions of the first and the last byte, both inclusive. `total`: the size of
    the whole blob, None for `*`.
    """

    first: int
    last: int
    total: int | None

    @classmethod
    def parse(cls, header: str) -> "ContentRange":
        """Parse the header. Raises ValueError, also if it contradicts itself."""
        match = _CONTENT_RANGE.fullmatch(header.strip())
        if match is None or any(len(number) > _MAX_DIGITS for number in match.groups()):
            raise ValueError("not a Content-Range of one range of bytes")
        first, last = int(match[1]), int(match[2])
        total = None if match[3] == "*" else int(match[3])
        if last < first or (total is not None and last >= total):
            raise ValueError("a Content-Range that contradicts itself")
        return cls(first, last, total)


def unsatisfied_total(header: str) -> int | None:
    """The size of the blob that a 416 states (`bytes */N`), None if it states none."""
    match = _UNSATISFIED.fullmatch(header.strip())
    return int(match[1]) if match and len(match[1]) <= _MAX_DIGITS else None


def is_requested_range(response: requests.Response, first: int, end: int, size: int) -> bool:
    """Whether a 206 states exactly the requested range (RFC 9110 §15.3.7). The total may be `*`."""
    answered = _content_range(response)
    if answered is None:
        return False
    return (answered.first, answered.last) == (first, end - 1) and answered.total in {None, size}


def states_other_size(response: requests.Response, size: int) -> bool:
    """Whether a 206 states a total other than `size`."""
    answered = _content_range(response)
    return answered is not None and answered.total not in {None, size}


def _content_range(response: requests.Response) -> ContentRange | None:
    try:
        return ContentRange.parse(response.headers.get("Content-Range", ""))
    except ValueError:
        return None

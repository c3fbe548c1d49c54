"""The secrets that tests use, and the search for them wherever towline leaves something behind.

Every password, token and signature that a test hands to towline is made by `secret(name)`, so that
one mark finds all of them: as they are, and as Basic authentication spells them.
"""

import base64
import re
from collections.abc import Iterator

_MARK = "t0wl1ne-s3cr3t"


def _spellings() -> Iterator[str]:
    """The mark as it is, and within base64, where three neighbours are possible."""
    yield _MARK
    for before in range(3):
        # Of letters, digits and this hyphen, the two alphabets of base64 spell no part differently.
        encoded = base64.b64encode(b"x" * before + _MARK.encode()).decode()
        # The ends depend on what stands beside the mark.
        yield encoded[4 if before else 0 : -4]


_NEEDLES = re.compile("|".join(map(re.escape, _spellings())))


def secret(name: str) -> str:
    """A made-up secret that `leaks` finds, different for each name."""
    return f"{_MARK}-{name}"


def leaks_in(text: str) -> list[str]:
    """Where a secret of the tests stands in a text, each with a little of what is around it."""
    return [
        text[max(0, found.start() - 40) : found.end() + 20] for found in _NEEDLES.finditer(text)
    ]

"""What a check found: a level, and a sentence that says what is the case and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_DETAILS = 20

Level = Literal["ok", "information", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. `details`: the first pulls, files or rows that the sentence is about."""

    level: Level
    sentence: str
    details: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class CheckResult:
    """A finding with the name of its check."""

    check: str
    level: Level
    sentence: str
    details: Sequence[str] = ()


def ok(sentence: str, details: Sequence[str] = ()) -> Finding:
    """Report that all is well."""
    return Finding("ok", sentence, tuple(details[:_DETAILS]))


def information(sentence: str, details: Sequence[str] = ()) -> Finding:
    """Report something to know, which calls for no action."""
    return Finding("information", sentence, tuple(details[:_DETAILS]))


def warning(sentence: str) -> Finding:
    """Report something that works but should be changed."""
    return Finding("warning", sentence)


def problem(sentence: str, details: Sequence[str] = ()) -> Finding:
    """Report something that does not work."""
    return Finding("problem", sentence, tuple(details[:_DETAILS]))


@dataclass(slots=True)
class Evidence:
    """Collects what a check finds: counts everything, and keeps only the first details.

    Memory stays constant, however much is wrong on a volume of millions of blobs.
    """

    count: int = 0
    total_bytes: int = 0
    details: tuple[str, ...] = ()

    def add(self, detail: str, size_bytes: int = 0) -> None:
        """Count one more."""
        self.count += 1
        self.total_bytes += size_bytes
        if len(self.details) < _DETAILS:
            self.details += (detail,)


def counted(number: int, noun: str, plural: str | None = None, *, most: int | None = None) -> str:
    """`1 pull`, `2 pulls`; `1,000 pulls or more` if the count stopped at `most`."""
    more = " or more" if number == most else ""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}{more}"


def are(number: int) -> str:
    """The verb behind `counted`."""
    return "is" if number == 1 else "are"

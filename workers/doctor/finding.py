"""The result of a check: a level, and one sentence that says what is the case and what to do."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

_DETAILS = 20

Level = Literal["ok", "information", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found. `details`: the first pulls, files or rows that the sentence is about."""

    check: str
    level: Level
    sentence: str
    details: Sequence[str] = ()


@dataclass(slots=True)
class Evidence:
    """Collects what a check finds: counts everything, and keeps only the first details.

    Memory stays constant, however much is wrong on a volume of millions of blobs.
    """

    count: int = 0
    total_bytes: int = 0
    details: list[str] = field(default_factory=list)

    def add(self, detail: str, size_bytes: int = 0) -> None:
        """Count one more."""
        self.count += 1
        self.total_bytes += size_bytes
        if len(self.details) < _DETAILS:
            self.details.append(detail)


def finding(check: str, level: Level, sentence: str, details: Sequence[str] = ()) -> CheckResult:
    """A Finding with at most the first 20 of these details."""
    return CheckResult(check, level, sentence, tuple(details[:_DETAILS]))


def counted(number: int, noun: str, plural: str | None = None, *, most: int | None = None) -> str:
    """`1 pull`, `2 pulls`; `1,000 pulls or more` if the count stopped at `most`."""
    more = " or more" if number == most else ""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}{more}"

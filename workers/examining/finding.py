"""What an examination answers: findings, each with one sentence that says what to do."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

_DETAILS = 20

Level = Literal["ok", "information", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. `details`: the first of those that it is about."""

    check: str
    level: Level
    sentence: str
    details: Sequence[str] = ()


@dataclass(slots=True)
class Evidence:
    """What a check finds, however much that is: all of it counted, the first of it told."""

    count: int = 0
    total_bytes: int = 0
    details: list[str] = field(default_factory=list)

    def add(self, detail: str, size_bytes: int = 0) -> None:
        """One more."""
        self.count += 1
        self.total_bytes += size_bytes
        if len(self.details) < _DETAILS:
            self.details.append(detail)


def finding(check: str, level: Level, sentence: str, details: Sequence[str] = ()) -> Finding:
    """A finding; of many details the first are enough."""
    return Finding(check, level, sentence, tuple(details[:_DETAILS]))


def counted(number: int, one: str, many: str | None = None, *, most: int | None = None) -> str:
    """`1 pull`, `2 pulls`; `1,000 pulls or more` where `most` were looked at."""
    more = " or more" if number == most else ""
    return f"{number:,} {one if number == 1 else many or one + 's'}{more}"

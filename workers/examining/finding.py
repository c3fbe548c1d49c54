"""What an examination answers: findings, each with one sentence that says what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "information", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found. `details`: the first of those that it is about."""

    check: str
    level: Level
    sentence: str
    details: Sequence[str] = ()


def finding(check: str, level: Level, sentence: str, details: Sequence[str] = ()) -> Finding:
    """A finding; of many details the first are enough."""
    return Finding(check, level, sentence, tuple(details[:_DETAILS]))


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 pull`, `2 pulls`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


_DETAILS = 20

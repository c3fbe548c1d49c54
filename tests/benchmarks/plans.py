"""The plans of all statements that PostgreSQL runs, for any process, as auto_explain logs them."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.builders.grown_catalog import GROWING
from workers.embedded.servers import PostgresServer

# For each new session. Timing single steps would cost more than most steps take.
_SETTINGS = {
    "session_preload_libraries": "'auto_explain'",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_format": "json",
}
# A message of the log; its continuation lines begin with a tab.
_PLAN = re.compile(r"duration: ([0-9.]+) ms  plan:\n((?:\t.*\n)+)")


@dataclass(frozen=True)
class Step:
    """A step of a plan that reads a table, and how many of its rows, over all loops."""

    kind: str
    table: str
    rows: int

    def __str__(self) -> str:
        return f"{self.kind} on {self.table}: {self.rows:,}"


@dataclass(frozen=True)
class Explained:
    """A statement that was run. `worst`: the step that reads the most rows of a growing table, if
    any.
    """

    statement: str
    milliseconds: float
    worst: Step | None

    @property
    def rows_read(self) -> int:
        """The rows that the worst step reads."""
        return self.worst.rows if self.worst else 0


class Plans:
    """What a server logs after `switch_on`."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._read = 0

    def switch_on(self) -> None:
        """Log the plan of every statement of new sessions."""
        with psycopg.connect(self._server.url, autocommit=True) as connection:
            # Otherwise the names of its settings would be unknown.
            connection.execute("LOAD 'auto_explain'")
            for name, value in _SETTINGS.items():
                connection.execute(f"ALTER SYSTEM SET {name} = {value}")
            connection.execute("SELECT pg_reload_conf()")
        self._read = self._server.log.stat().st_size

    def new(self) -> list[Explained]:
        """The statements that were run since the last call."""
        with self._server.log.open("rb") as log:
            log.seek(self._read)
            content = log.read()
        self._read += len(content)
        return [
            _explained(float(milliseconds), json.loads(plan))
            for milliseconds, plan in _PLAN.findall(content.decode(errors="replace"))
        ]


def _explained(milliseconds: float, document: Mapping[str, Any]) -> Explained:
    steps = [step for node in _nodes(document["Plan"]) if (step := _step(node)) is not None]
    worst = max(steps, key=lambda step: step.rows, default=None)
    return Explained(" ".join(document["Query Text"].split()), milliseconds, worst)


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    below: Sequence[Mapping[str, Any]] = node.get("Plans", ())
    for child in below:
        yield from _nodes(child)


def _step(node: Mapping[str, Any]) -> Step | None:
    # Scans of views and common table expressions have no relation name, and writes read nothing.
    if node.get("Relation Name") not in GROWING or node["Node Type"] == "ModifyTable":
        return None
    left_out = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    rows = node["Actual Rows"] + sum(node.get(name, 0) for name in left_out)
    return Step(node["Node Type"], node["Relation Name"], rows * node["Actual Loops"])

"""The cost of a fleet so far: SQL, Redis commands and processor time, by process.

PostgreSQL counts statements itself if it has pg_stat_statements. Workers, reconcilers and the
measurement connect as different roles, so that it can tell them apart. Processor time is that of
the kernel, for whole process trees, including children that have ended.
"""

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis

from tests.acceptance.faults.processes import tree
from tests.acceptance.fleet import Fleet
from tests.benchmarks.fleets import Stores
from workers.embedded.servers import start, stop

WORKER, RECONCILER = "worker", "reconciler"
_EXTENSION = "pg_stat_statements"
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
_TRANSACTION = "('BEGIN', 'COMMIT', 'ROLLBACK')"
_COUNT = f"""
    SELECT rolname, sum(calls) FILTER (WHERE query NOT IN {_TRANSACTION}),
        sum(calls) FILTER (WHERE query = 'BEGIN')
    FROM {_EXTENSION} JOIN pg_roles ON pg_roles.oid = userid
    JOIN pg_database ON pg_database.oid = dbid AND datname = current_database()
    GROUP BY rolname
"""
_DEAREST = f"""
    SELECT rolname, calls, total_exec_time, rows, shared_blks_hit + shared_blks_read,
        regexp_replace(query, '\\s+', ' ', 'g')
    FROM {_EXTENSION} JOIN pg_roles ON pg_roles.oid = userid
    JOIN pg_database ON pg_database.oid = dbid AND datname = current_database()
    WHERE rolname IN ('{WORKER}', '{RECONCILER}') ORDER BY total_exec_time DESC LIMIT 25
"""


@dataclass(frozen=True)
class Costs:
    """Sums since the fleet began; times in seconds. `statements` excludes BEGIN and COMMIT."""

    statements: float = 0
    transactions: float = 0
    reconciler_statements: float = 0
    commands: float = 0
    postgres_cpu: float = 0
    redis_cpu: float = 0
    worker_cpu: float = 0
    reconciler_cpu: float = 0

    @property
    def cpu(self) -> float:
        """Processor seconds of the fleet and its stores."""
        return self.postgres_cpu + self.redis_cpu + self.worker_cpu + self.reconciler_cpu

    def since(self, before: "Costs", count: int) -> "Costs":
        """The difference to an earlier reading, per item of `count`."""
        return (self + before.times(-1)).times(1 / count)

    def times(self, factor: float) -> "Costs":
        """These costs, multiplied."""
        return Costs(*(factor * getattr(self, figure.name) for figure in fields(Costs)))

    def __add__(self, other: "Costs") -> "Costs":
        return Costs(
            *(getattr(self, figure.name) + getattr(other, figure.name) for figure in fields(Costs))
        )


class Meter:
    """Reads the counters. `counts_sql`: whether this PostgreSQL can count statements."""

    def __init__(self, under: Stores) -> None:
        self._under = under
        self._passwords = {role: secrets.token_urlsafe(16) for role in (WORKER, RECONCILER)}
        with psycopg.connect(under.postgres.url, autocommit=True) as connection:
            known = "SELECT 1 FROM pg_available_extensions WHERE name = %s"
            self.counts_sql = connection.execute(known, [_EXTENSION]).fetchone() is not None
            if self.counts_sql:
                connection.execute(f"ALTER SYSTEM SET shared_preload_libraries = {_EXTENSION}")
            for role, password in self._passwords.items():
                connection.execute(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{password}'")
        if self.counts_sql:
            stop(under.postgres)
            start(under.postgres)

    def environment(self, fleet: Fleet, role: str) -> dict[str, str]:
        """The environment variables that make a process connect as this role."""
        url = urlsplit(fleet.database_url)
        netloc = f"{role}:{self._passwords[role]}@{url.hostname}:{url.port}"
        return {"TOWLINE_DATABASE_URL": urlunsplit(url._replace(netloc=netloc))}

    def attach(self, fleet: Fleet, processes: Mapping[str, list[int]]) -> None:
        """Start to count. `processes`: pids by role."""
        self._processes = processes
        self._commands_of_its_own = 0
        self._redis = redis.Redis.from_url(fleet.redis_url)
        self._sql = psycopg.connect(fleet.database_url, autocommit=True)
        if self.counts_sql:
            self._sql.execute(f"CREATE EXTENSION {_EXTENSION}")
        self._postmaster = parent(self._sql.info.backend_pid)

    def detach(self) -> None:
        """Close the connections to both stores."""
        self._redis.close()
        self._sql.close()

    def count(self, pulls: str) -> int:
        """The number of pulls that match this condition."""
        ((count,),) = self._sql.execute(f"SELECT count(*) FROM pulls WHERE {pulls}").fetchall()
        return int(count)

    def redis_bytes(self) -> int:
        """Memory of Redis in use now."""
        self._commands_of_its_own += 1
        return int(self._redis.info("memory")["used_memory"])

    def read(self) -> Costs:
        """All counters, now."""
        found = self._sql.execute(_COUNT) if self.counts_sql else ()
        counted = {role: (float(all_ or 0), float(begun or 0)) for role, all_, begun in found}
        by_worker, by_reconciler = (counted.get(role, (0, 0)) for role in (WORKER, RECONCILER))
        self._commands_of_its_own += 1
        info = self._redis.info()
        return Costs(
            statements=by_worker[0] + by_reconciler[0],
            transactions=by_worker[1] + by_reconciler[1],
            reconciler_statements=by_reconciler[0],
            commands=info["total_commands_processed"] - self._commands_of_its_own,
            postgres_cpu=cpu_seconds(self._postmaster) - cpu_seconds(self._sql.info.backend_pid),
            redis_cpu=cpu_seconds(info["process_id"]),
            worker_cpu=sum(map(cpu_seconds, self._processes[WORKER])),
            reconciler_cpu=sum(map(cpu_seconds, self._processes[RECONCILER])),
        )

    def dearest(self) -> list[str]:
        """The statements that took PostgreSQL the most time, one per line."""
        if not self.counts_sql:
            return []
        return [
            f"{role:<11}{calls:>9} calls {milliseconds:>10.0f} ms {rows / calls:>8.1f} rows "
            f"{pages / calls:>9.1f} pages each  {query[:150]}"
            for role, calls, milliseconds, rows, pages, query in self._sql.execute(_DEAREST)
        ]


def parent(pid: int) -> int:
    """The process that started this one."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, of all of its descendants, and of its children that have
    ended.
    """
    ticks = 0
    for member in tree(pid):
        with suppress(OSError):
            ticks += sum(
                map(int, Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()[11:15])
            )
    return ticks * _TICK_SECONDS

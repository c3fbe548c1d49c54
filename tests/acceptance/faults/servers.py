"""A PostgreSQL or Redis of a single test, which may kill it, freeze it and start it again."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import psycopg
import redis

from tests.acceptance.faults.processes import send, tree
from tests.support.waiting import wait_until
from workers.embedded.servers import PostgresServer, RedisServer

_RESTART_SECONDS = 30


class OwnServer:
    """A server that a test may break. `pid_of`: asks it for the id of its main process."""

    def __init__(self, server: PostgresServer | RedisServer, pid_of: Callable[[str], int]) -> None:
        self._server = server
        self._pid_of = pid_of
        self.url = server.url
        self._pid = pid_of(self.url)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, and nothing is answered."""
        send(tree(self._pid), signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        send(tree(self._pid), signal.SIGCONT)

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it this signal, and wait until it has ended."""
        child = self._server.child
        assert child is not None
        send([self._pid], number)
        wait_until(lambda: not child.alive, timeout=_RESTART_SECONDS)

    def start_again(self) -> None:
        """Start it again on the same port."""
        port = urlsplit(self.url).port
        with patch("workers.embedded.servers.free_port", return_value=port):
            self._server.launch()
        wait_until(self._server.answers, timeout=_RESTART_SECONDS)
        assert self._server.url == self.url
        self._pid = self._pid_of(self.url)


class OwnPostgres(OwnServer):
    """A PostgreSQL of a single test. What it commits survives its end."""

    def __init__(self, server: PostgresServer) -> None:
        super().__init__(server, _postmaster)
        with psycopg.connect(self.url, autocommit=True) as connection:
            # The suite's servers run without it, for speed.
            connection.execute("ALTER SYSTEM SET synchronous_commit = on")
            connection.execute("SELECT pg_reload_conf()")

    def become_standby(self) -> None:
        """Start again as a hot standby on the same port: it answers, and takes no write."""
        with psycopg.connect(self.url) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
        assert row is not None
        # A fast shutdown leaves nothing to replay.
        self.end(signal.SIGINT)
        Path(row[0], "standby.signal").touch()
        self.start_again()

    def promote(self) -> None:
        """Let the standby become the primary. Sessions go on."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            assert connection.execute("SELECT pg_promote()").fetchone() == (True,)


class OwnRedis(OwnServer):
    """A Redis of a single test, with an append-only file."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__(server, _redis_process)
        with self.client() as client:
            self._data = Path(client.config_get("dir")["dir"])

    def client(self) -> "redis.Redis[Any]":
        """A client, for a test that changes its data."""
        return redis.Redis.from_url(self.url, decode_responses=True)

    def forget(self) -> None:
        """Delete its data on disk while it is down, as if it had no append-only file."""
        shutil.rmtree(self._data)


def _postmaster(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
    assert row is not None
    return int(row[0].split("\n")[0])


def _redis_process(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.info("server")["process_id"])

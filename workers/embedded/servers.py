"""The two servers of the embedded stack, on loopback, each with a random password.

Passwords are kept in files of mode 0600, and are passed on in URLs through the environment. They
are never command-line arguments, which every user of the machine could read.
"""

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import redis

from shared.catalog.database.catalog import Catalog
from shared.errors import CatalogUnavailable
from workers.embedded.binaries import PostgresBinaries
from workers.embedded.child_process import (
    Child,
    last_log_line,
    make_unprivileged_owner,
    run_unprivileged,
    unprivileged_hint,
)
from workers.embedded.stack_files import password_file, write_private

_START_SECONDS = 30.0
_POLL_SECONDS = 0.02
_PORT_TRIES = 3
_STOP_SECONDS = 10.0

_USER = "towline"


class PostgresServer:
    """A PostgreSQL server with its data directory below `directory`."""

    def __init__(self, directory: Path, binaries: PostgresBinaries) -> None:
        self._directory = directory
        self._binaries = binaries
        self._data = directory / f"postgres-{binaries.major}"
        self.log = directory / "postgres.log"
        self._port = 0
        self.child: Child | None = None

    def launch(self) -> None:
        """Start the process, on a new free port. `answers` says when it is ready."""
        self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        self._remove_stale_pid_file()
        self._port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": "",
            "max_connections": "200",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        self.child = Child(
            "PostgreSQL",
            [self._binaries.postgres, "-D", self._data, *options],
            self.log,
            # Fast shutdown: it ends the sessions and writes a checkpoint.
            signal.SIGINT,
            unprivileged=True,
        )

    def _initialise(self) -> None:
        """Create the data directory under a temporary name, so that it is complete or missing."""
        fresh = self._data.with_suffix(".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        make_unprivileged_owner(fresh)
        password = password_file(self._directory / "postgres.password")
        make_unprivileged_owner(self._directory / "postgres.password")
        command: list[str | Path] = [
            self._binaries.initdb,
            "-D",
            fresh,
            "-U",
            _USER,
            "--auth=scram-sha-256",
        ]
        options: list[str] = [
            f"--pwfile={password}",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
        ]
        if not run_unprivileged([*command, *options], self.log):
            raise CatalogUnavailable(
                f"PostgreSQL's data directory could not be made: see {self.log}. "
                f"{last_log_line(self.log)}{unprivileged_hint()}"
            )
        fresh.rename(self._data)

    def _remove_stale_pid_file(self) -> None:
        """Remove the pid file that a killed postmaster left.

        Its process id may belong to another process by now, in a new container almost certainly.
        PostgreSQL would then refuse to start. A live postmaster has its data directory as its
        working directory, which tells the two apart.
        """
        file = self._data / "postmaster.pid"
        try:
            pid = file.read_text().partition("\n")[0].strip()
        except FileNotFoundError:
            return
        try:
            working_directory = os.readlink(f"/proc/{pid}/cwd")
        except FileNotFoundError:
            working_directory = ""
        except PermissionError:
            return
        if working_directory != str(self._data.resolve()):
            file.unlink()

    @property
    def url(self) -> str:
        """The URL of its database `postgres`, with the password."""
        password = (self._directory / "postgres.password").read_text()
        return f"postgresql://{_USER}:{password}@127.0.0.1:{self._port}/postgres"

    def answers(self) -> bool:
        """Whether the server accepts connections."""
        catalog = Catalog(self.url)
        try:
            catalog.ping()
        except CatalogUnavailable:
            return False
        finally:
            catalog.close()
        return True


class RedisServer:
    """A Redis or Valkey server with its append-only file below `directory`."""

    def __init__(self, directory: Path, binary: Path) -> None:
        self._directory = directory
        self._binary = binary
        self._port = 0
        self.child: Child | None = None

    def launch(self) -> None:
        """Start the process, on a new free port. `answers` says when it is ready."""
        data = self._directory / "redis"
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._port = free_port()
        password = password_file(self._directory / "redis.password").read_text()
        config = self._directory / "redis.conf"
        write_private(
            config,
            f'bind 127.0.0.1\nport {self._port}\nrequirepass {password}\ndir "{data}"\n'
            # No eviction: an evicted queue or chord would be a lost pull.
            "appendonly yes\nappendfsync everysec\nmaxmemory-policy noeviction\n"
            'save ""\n',
        )
        self.child = Child(
            "Redis", [self._binary, config], self._directory / "redis.log", signal.SIGTERM
        )

    @property
    def url(self) -> str:
        """The URL of its database 0, with the password."""
        password = (self._directory / "redis.password").read_text()
        return f"redis://:{password}@127.0.0.1:{self._port}/0"

    def answers(self) -> bool:
        """Whether the server accepts commands. False while it loads its append-only file."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


def start(*servers: PostgresServer | RedisServer) -> None:
    """Start servers in parallel and wait until all answer. Raises CatalogUnavailable.

    A server is started again, on another port, if it dies or does not answer: another process may
    have taken its port.
    """
    for server in servers:
        server.launch()
    for server in servers:
        for remaining in reversed(range(_PORT_TRIES)):
            if _await(server.answers, server.child):
                break
            child = server.child
            if remaining == 0 and child is not None:
                raise child.died()
            stop(server)
            server.launch()


def stop(server: PostgresServer | RedisServer) -> None:
    """Stop a server cleanly, if it was started."""
    if server.child is not None:
        server.child.stop(_STOP_SECONDS)


def free_port() -> int:
    """A loopback port that is free at this moment; another process may take it at any time."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await(answers: Callable[[], bool], child: Child | None) -> bool:
    """Wait for a server. False if it died or did not answer in time."""
    deadline = time.monotonic() + _START_SECONDS
    while child is not None and child.alive and time.monotonic() < deadline:
        if answers():
            return True
        time.sleep(_POLL_SECONDS)
    return False

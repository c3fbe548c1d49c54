"""An embedded stack, seen from outside: users in their own processes, and what is left running."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis

from tests.support.waiting import wait_until

# Parts of the command lines. Redis and Valkey overwrite theirs with a title.
POSTGRES = ("/postgres", "listen_addresses")
REDIS = ("-server", "127.0.0.1:")
SUPERVISOR = "workers.embedded.supervisor"
WORKER = "workers.embedded.stack_worker"

# Joins the stack, prints the URLs as JSON, and leaves when stdin is closed. If the stack fails, it
# prints the error instead.
_USER = """
import json, sys, threading
from shared.catalog.database.catalog import Catalog
from shared.errors import TowlineError
from shared.settings import Settings
from workers.embedded.joining import stack_in_use

def tell(**words):
    print(json.dumps(words), flush=True)

leave = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), leave.set()), daemon=True).start()
try:
    with stack_in_use(Settings.read()) as fleet:
        tell(database=fleet.database_url.get_secret_value(),
             broker=fleet.broker_url.get_secret_value(),
             volume=str(fleet.volume_path / "."))
        catalog = Catalog(fleet.sqlalchemy_url)
        while not leave.wait(0.05):
            catalog.ping()
except TowlineError as error:
    tell(error=type(error).__name__, message=str(error))
"""


@dataclass
class User:
    """A process that uses the stack."""

    process: subprocess.Popen[str]

    def joined(self) -> dict[str, Any]:
        """Wait until it has joined. Returns the URLs that it got."""
        message = self.hear()
        assert "error" not in message, message
        return message

    def hear(self) -> dict[str, Any]:
        """Wait for its next message."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        message: dict[str, Any] = json.loads(line or '{"error": "silent"}')
        return message

    def leave(self) -> None:
        """Make it leave and exit cleanly."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(timeout=40) == 0

    def kill(self) -> None:
        """Kill it with SIGKILL."""
        self.process.kill()
        self.process.wait()


@dataclass
class Stack:
    """The embedded stack below `home`, seen from outside."""

    home: Path
    python: str = sys.executable
    variables: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    users: list[User] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its users."""
        return {**os.environ, "TOWLINE_HOME": str(self.home), **self.variables}

    def user(self) -> User:
        """Start one more user."""
        process = subprocess.Popen(
            [self.python, "-c", _USER],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **self.options,
        )
        user = User(process)
        self.users.append(user)
        return user

    def processes(self, *words: str) -> list[int]:
        """Its live processes, without users, whose command line contains all `words`."""
        users = {user.process.pid for user in self.users}
        return [
            pid
            for pid in _living()
            if pid not in users
            and str(self.home) in _traces(pid)
            and all(word in command_line(pid) for word in words)
        ]

    def is_gone(self) -> bool:
        """Whether none of its processes runs."""
        return not self.processes()

    def has_replaced(self, killed: int, *words: str) -> bool:
        """Whether another process with `words` in its command line runs instead of `killed`."""
        running = self.processes(*words)
        return len(running) == 1 and running != [killed]

    def kill(self, *words: str) -> None:
        """Send SIGKILL to its processes whose command line contains all `words`."""
        for pid in self.processes(*words):
            # Killing one process may end others.
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@contextmanager
def stack_below(home: Path, **options: Any) -> Iterator[Stack]:
    """A stack for one test. Fails if processes are left after all users have left."""
    stack = Stack(home, **options)
    try:
        yield stack
        for user in stack.users:
            if user.process.poll() is None:
                user.leave()
        wait_until(stack.is_gone, timeout=60)
    finally:
        for user in stack.users:
            user.kill()
            for pipe in (user.process.stdin, user.process.stdout):
                if pipe is not None:
                    pipe.close()
        stack.kill()


def write(given: dict[str, str], word: str) -> None:
    """Write a word to both servers."""
    with psycopg.connect(given["database"]) as connection:
        connection.execute("CREATE TABLE written AS SELECT %s::text AS word", (word,))
    with redis.Redis.from_url(given["broker"]) as client:
        client.set("written", word)
        # By default the append-only file reaches the disk within a second. Here it must be at once.
        client.config_set("appendfsync", "always")
        client.set("written", word)


def written(given: dict[str, str]) -> str:
    """The word in both servers; "nothing" if none was written."""
    with psycopg.connect(given["database"]) as connection:
        found = connection.execute("SELECT to_regclass('written')").fetchone()
        if found == (None,):
            return "nothing"
        row = connection.execute("SELECT word FROM written").fetchone()
    with redis.Redis.from_url(given["broker"], decode_responses=True) as client:
        assert row == (client.get("written"),)
        return str(client.get("written"))


def command_line(pid: int) -> str:
    """The command line of a process, which all users of the machine can read."""
    return _read(pid, "cmdline")


def _living() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _traces(pid: int) -> str:
    """Everything of a process that may name its TOWLINE_HOME."""
    # PostgreSQL overwrites its environment with its title, but its working directory tells.
    try:
        directory = os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        directory = ""
    return "\n".join((_read(pid, "environ"), command_line(pid), directory))


def _read(pid: int, name: str) -> str:
    try:
        return (
            Path(f"/proc/{pid}/{name}").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        )
    except OSError:
        # It has ended, or belongs to another user.
        return ""

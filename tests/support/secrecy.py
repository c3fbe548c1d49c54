"""The secrets that tests use, and the search for them wherever towline leaves data.

Tests make every password, token and signature with `secret(name)`, so one mark finds all of them:
in plain text, and inside base64, as in logins and in Celery's messages.
"""

import base64
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis
from psycopg import sql

_MARK = "t0wl1ne-s3cr3t"
_PATIENCE_SECONDS = 5
_LOGGERS = ("shared", "workers", "urllib3", "requests")


def secret(name: str) -> str:
    """A made-up secret that the search finds, different for each name."""
    return f"{_MARK}-{name}"


def _spellings() -> Iterator[str]:
    """The mark in plain text, and inside base64, where it has three possible alignments."""
    yield _MARK
    for before in range(3):
        # Letters, digits and this hyphen are encoded the same in both alphabets of base64.
        encoded = base64.b64encode(b"x" * before + _MARK.encode()).decode()
        # The first and last characters depend on the text around the mark.
        yield encoded[4 if before else 0 : -4]


_NEEDLES = re.compile("|".join(map(re.escape, _spellings())))


def leaks_in(text: str, place: str = "", also: Iterable[str] = ()) -> list[str]:
    """Where a secret of the tests occurs in a text, each with some of the text around it.

    `also`: secrets that were not made here, such as a server's password.
    """
    needles = re.compile("|".join([_NEEDLES.pattern, *map(re.escape, also)]))
    return [
        f"{place}{text[max(0, found.start() - 80) : found.end() + 20]}"
        for found in needles.finditer(text)
    ]


def leaks_in_files(directory: Path, pattern: str = "*.log", also: Iterable[str] = ()) -> list[str]:
    """Leaks in the files below a directory."""
    files = (path for path in sorted(directory.rglob(pattern)) if path.is_file())
    return [
        leak
        for path in files
        for leak in leaks_in(path.read_text(errors="replace"), f"{path.name}: ", also)
    ]


def passwords_in(*urls: str) -> list[str]:
    """The passwords of servers, as their URLs contain them."""
    return [password for url in urls if (password := urlsplit(url).password)]


def leaks_in_catalog(url: str) -> list[str]:
    """Leaks in every row of every table, read as text. Empty if the database is unreachable."""
    tables = (
        "SELECT schemaname, tablename FROM pg_tables "
        "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
    )
    try:
        with psycopg.connect(url, connect_timeout=_PATIENCE_SECONDS) as connection:
            rows = [
                sql.SQL("SELECT {}::text, t::text FROM {} t WHERE t::text ~ {}").format(
                    sql.Literal(table), sql.Identifier(schema, table), sql.Literal(_NEEDLES.pattern)
                )
                for schema, table in connection.execute(tables).fetchall()
            ]
            found = connection.execute(sql.SQL(" UNION ALL ").join(rows)) if rows else ()
            return [leak for table, row in found for leak in leaks_in(row, f"{table}: ")]
    except psycopg.OperationalError:
        return []


def leaks_in_redis(url: str) -> list[str]:
    """Leaks in every key and value. Empty if Redis is unreachable."""
    patience = {"socket_timeout": _PATIENCE_SECONDS, "socket_connect_timeout": _PATIENCE_SECONDS}
    try:
        with redis.Redis.from_url(url, **patience) as client:
            return [
                leak
                for key in client.scan_iter(count=1000)
                for leak in leaks_in(f"{_text(key)}: {_text(_value(client, key))}", "Redis, ")
            ]
    except redis.RedisError:
        return []


def _value(client: "redis.Redis[Any]", key: bytes) -> Any:
    read = {
        b"string": lambda: client.get(key),
        b"list": lambda: client.lrange(key, 0, -1),
        b"hash": lambda: client.hgetall(key),
        b"set": lambda: client.smembers(key),
        b"zset": lambda: client.zrange(key, 0, -1),
        b"stream": lambda: client.xrange(key),
    }
    # A key that has expired in between has the type `none`.
    return read.get(client.type(key), str)()


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else repr(value)


class _Listener(logging.Handler):
    """Keeps every log line, including tracebacks."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def listening() -> Iterator[list[str]]:
    """Everything that this process logs about pulls during the block, at every level."""
    listener = _Listener()
    loggers = {name: logging.getLogger(name) for name in _LOGGERS}
    levels = {name: logger.level for name, logger in loggers.items()}
    for logger in loggers.values():
        logger.addHandler(listener)
        logger.setLevel(logging.DEBUG)
    try:
        yield listener.lines
    finally:
        for name, logger in loggers.items():
            logger.removeHandler(listener)
            logger.setLevel(levels[name])

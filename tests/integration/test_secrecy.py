"""The search for secrets finds those that were put there for it."""

import base64
import json
import logging
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis

from tests.support.driver import Driver, driving
from tests.support.secrecy import leaks_in, leaks_in_catalog, leaks_in_files, leaks_in_redis, secret

SECRET = secret("planted")


@pytest.mark.parametrize("before", ["", "x", "xx", "user:"])
def test_a_secret_is_found_as_it_is_and_within_base64(before: str) -> None:
    text = f"{before}{SECRET}"
    urlsafe = base64.urlsafe_b64encode(text.encode()).decode()
    for spelling in (text, base64.b64encode(text.encode()).decode(), urlsafe):
        assert len(leaks_in(f"It is {spelling}.")) == 1
    assert leaks_in("It is a s3cr3t.") == []


def test_a_secret_in_a_log_is_found(tmp_path: Path) -> None:
    (tmp_path / "worker-0.log").write_bytes(b"\xff fine\nnot " + SECRET.encode())
    (tmp_path / "layer.bin").write_text(SECRET)
    (leak,) = leaks_in_files(tmp_path)
    assert leak.startswith("worker-0.log: ")


def test_a_secret_in_any_column_is_found(migrated_url: str) -> None:
    assert leaks_in_catalog(migrated_url) == []
    with psycopg.connect(migrated_url) as connection:
        connection.execute("CREATE TABLE notes (id int, note jsonb)")
        connection.execute("INSERT INTO notes VALUES (1, %s)", (json.dumps({"a": [SECRET]}),))
    (leak,) = leaks_in_catalog(migrated_url)
    assert leak.startswith("notes: ")


def test_a_secret_in_any_kind_of_value_is_found(redis_url: str) -> None:
    assert leaks_in_redis(redis_url) == []
    message = base64.b64encode(json.dumps({"kwargs": {"reference": SECRET}}).encode())
    with redis.Redis.from_url(redis_url) as client:
        client.set("string", SECRET)
        client.rpush("list", json.dumps({"body": message.decode()}))
        client.hset("hash", "field", SECRET)
        client.sadd("set", SECRET)
        client.zadd("zset", {SECRET: 1})
        client.xadd("stream", {"field": SECRET})
        client.set(f"key-{SECRET}", "1")
    assert len(leaks_in_redis(redis_url)) == 7


def log(_: Driver) -> None:
    logging.getLogger("shared.registry").debug("GET /?signature=%s", SECRET)


def keep(driver: Driver) -> None:
    driver.change(f"CREATE TABLE notes AS SELECT '{SECRET}'::text AS note")


@pytest.mark.parametrize("leak", [log, keep])
def test_a_driver_that_leaked_fails_its_test(
    migrated_url: str, volume_path: Path, leak: Callable[[Driver], None]
) -> None:
    with pytest.raises(AssertionError, match="planted"), driving(migrated_url, volume_path) as one:
        leak(one)


def test_servers_that_are_away_hold_nothing() -> None:
    assert leaks_in_catalog("postgresql://127.0.0.1:1/x") == []
    assert leaks_in_redis("redis://127.0.0.1:1/0") == []

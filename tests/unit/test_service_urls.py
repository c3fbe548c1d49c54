"""URLs of PostgreSQL and Redis: usable ones pass, others are refused with one sentence."""

import re
import traceback
from urllib.parse import quote

import pytest
from kombu import Connection
from redis import Redis
from sqlalchemy import make_url

from shared.errors import InvalidArgument
from shared.service_urls import check_broker_url, check_result_url, database_url
from shared.settings import Settings

HARD = "p@s:s/w#r%d?"
# Parts of the passwords below, which no message may contain.
PASSWORD_PARTS = re.compile(r"s3|cr3|w0rd")


@pytest.mark.parametrize(
    ("url", "password", "host", "port"),
    [
        (f"postgresql://u:{quote(HARD, safe='')}@h:1/d", HARD, "h", 1),
        ("postgres://u:a/b#c?d:e@h/d", "a/b#c?d:e", "h", None),
        ("postgresql+psycopg://u@[::1]:5432/d", None, "::1", 5432),
        ("postgresql://h/d%40x?sslmode=require", None, "h", None),
        ("postgresql://u:p@/d?host=/run/postgresql", "p", None, None),
        ("postgresql:///d?host=a:1&host=b:2&target_session_attrs=read-write", None, None, None),
        ("postgresql://", None, None, None),
    ],
)
def test_sqlalchemy_reads_the_same_password_host_and_port(
    url: str, password: str | None, host: str | None, port: int | None
) -> None:
    read = make_url(database_url(url))
    assert (read.password, read.host, read.port) == (password, host, port)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must begin with postgresql://"),
        ("h/d", "must begin with postgresql://"),
        ("mysql://u:s3cr3t@h/d", "must begin with postgresql://"),
        ("postgresql://u:p@s3/w#cr3:w0rd@postgres:5432/towline", "%40 for @"),
        ("postgresql://u:s3@cr3@h/d", "%40 for @"),
        ("postgresql://u:s3cr3t@h:5432x/d", "port is not a number"),
        ("postgresql://u:s3cr3t@h:s3/d", "port is not a number"),
        ("postgresql://u:s3cr3t@a:1,b:2/d?target_session_attrs=read-write", "host=first:5432"),
        ("postgresql://u:s3cr3t@%2Fvar%2Frun/d", "host=/directory"),
    ],
)
def test_an_unusable_database_url_is_refused_by_the_name_of_its_variable(
    url: str, reason: str
) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(reason)) as caught:
        Settings.read(broker_url="redis://h", database_url=url or "none")
    assert str(caught.value).startswith("TOWLINE_DATABASE_URL cannot be used: ")
    assert not PASSWORD_PARTS.search(str(caught.value))


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h:6379/",
        f"redis://user:{quote(HARD, safe='')}@h:6379/5",
        "redis://:a@b@h:6379/0",
        "redis://[::1]:6379/0",
        "rediss://:p@h:6379/0?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem",
    ],
)
def test_every_client_can_read_an_accepted_redis_url(url: str) -> None:
    check_broker_url(url)
    check_result_url(url)
    connection = Connection(url)
    pool = Redis.from_url(url).connection_pool
    assert pool.connection_kwargs["host"] == connection.hostname
    assert pool.connection_kwargs.get("password") == connection.password
    # redis-py checks the parameters only when it makes a connection.
    pool.make_connection()


WRONG_REDIS = [
    ("h:6379", "must begin with redis://"),
    ("/s3cr3t", "must begin with redis://"),
    ("valkey://:s3cr3t@h", "must begin with redis://"),
    ("amqp://u:s3cr3t@h", "must begin with redis://"),
    ("redis+socket:///run/redis.sock", "does not work yet"),
    ("sentinel://:s3cr3t@h:26379/0", "does not work yet"),
    ("redis://", "names no host"),
    ("redis://:s3#cr3@h:6379/0", "%23 for #"),
    ("redis://:s3/cr3@w0rd:6379/0", "%2F for /"),
    ("redis://:123#s3cr3t@h:6379/0", "%23 for #"),
    ("redis://:s3cr3t@h:x/0", "port cannot be read"),
    ("redis://:s3]cr3t@h/0", "cannot be read"),
    ("redis://:s3?cr3t@h:1/0", "cannot be read"),
    ("redis://:s3cr3t@h/towline", "number of a database"),
    ("redis://:s3cr3t@h/0?ssl_cert_reqs=none", "only a rediss:// URL"),
    ("rediss://:s3cr3t@h/0", "needs ?ssl_cert_reqs="),
    ("rediss://:s3cr3t@h/0?ssl_cert_reqs=s3cr3t", "needs ?ssl_cert_reqs="),
    ("rediss://:s3cr3t@h/0?ssl_cert_reqs=none&s3=1", "its parameters may only be"),
]


@pytest.mark.parametrize(("url", "reason"), WRONG_REDIS)
@pytest.mark.parametrize("variable", ["TOWLINE_BROKER_URL", "TOWLINE_RESULT_URL"])
def test_an_unusable_redis_url_is_refused_by_the_name_of_its_variable(
    variable: str, url: str, reason: str
) -> None:
    urls = {"broker_url": "redis://h", "database_url": "postgresql://h/d"}
    name = variable.removeprefix("TOWLINE_").lower()
    with pytest.raises(InvalidArgument, match=re.escape(reason)) as caught:
        Settings.read(**{**urls, name: url})
    assert str(caught.value).startswith(f"{variable} cannot be used: ")
    traceback_text = "".join(traceback.format_exception(caught.value, limit=0))
    assert not PASSWORD_PARTS.search(traceback_text)


def test_a_database_may_store_the_results() -> None:
    check_result_url("db+postgresql+psycopg://u:p@h/d")
    with pytest.raises(InvalidArgument, match="TOWLINE_RESULT_URL"):
        check_result_url("db+postgresql+psycopg://u:s3/cr3@h/d")

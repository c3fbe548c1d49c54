"""A channel whose connection broke says so in words that Celery understands."""

import pytest
from kombu import Connection
from kombu.transport.redis import Channel
from redis.exceptions import ConnectionError as RedisConnectionError

from workers import broker


def test_a_closed_channel_raises_a_connection_error_that_kombu_handles() -> None:
    broker.install()
    broker.install()
    connection = Connection("redis://127.0.0.1:1/0")
    channel = Channel.__new__(Channel)
    channel.connection = None
    with pytest.raises(RedisConnectionError) as raised:
        channel._connparams()
    assert isinstance(raised.value, connection.connection_errors)


def test_an_open_channel_still_knows_where_its_redis_is() -> None:
    broker.install()

    class Transport:
        client = Connection("redis://example.test:6380/3")

    channel = Channel.__new__(Channel)
    channel.connection = Transport()
    assert channel._connparams()["host"] == "example.test"

"""A channel whose connection broke raises an error that Celery handles; clients are reused."""

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


def test_a_channel_makes_one_client_for_each_of_its_pools() -> None:
    broker.install()

    class Transport:
        client = Connection("redis://127.0.0.1:1/0")

    channel = Channel.__new__(Channel)
    channel.connection = Transport()
    channel.Client = channel._get_client()
    with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
        assert first is second
        assert first.connection_pool is channel.pool
    # As after a lost connection.
    channel._pool = None
    with channel.conn_or_acquire() as third:
        assert third is not first
        assert third.connection_pool is channel.pool
    assert channel._create_client(asynchronous=True) is not channel._create_client(
        asynchronous=True
    )

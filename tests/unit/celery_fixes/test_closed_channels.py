"""A channel whose connection broke raises an error that Celery handles."""

import pytest
from kombu import Connection
from kombu.transport.redis import Channel
from redis.exceptions import ConnectionError as RedisConnectionError

from workers.celery_fixes import closed_channels


class OpenTransport:
    client = Connection("redis://example.test:6380/3")


def channel_on(connection: object) -> Channel:
    channel = Channel.__new__(Channel)
    channel.connection = connection
    return channel


def test_upstream_a_closed_channel_raises_an_error_that_kombu_does_not_handle() -> None:
    with pytest.raises(AttributeError) as raised:
        closed_channels.unrepaired(channel_on(None))
    assert not isinstance(raised.value, Connection("redis://").connection_errors)


def test_a_closed_channel_raises_a_connection_error_that_kombu_handles() -> None:
    closed_channels.repair()
    closed_channels.repair()
    with pytest.raises(RedisConnectionError) as raised:
        channel_on(None)._connparams()
    assert isinstance(raised.value, Connection("redis://").connection_errors)


def test_an_open_channel_still_knows_where_its_redis_is() -> None:
    closed_channels.repair()
    assert channel_on(OpenTransport())._connparams()["host"] == "example.test"

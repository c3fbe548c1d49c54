"""The Celery apps: the fleet's, and one like a caller's that sends the callbacks of pulls.

Our app refuses queues that it does not know, so that a misspelt queue of ours is an error. A
caller's callback goes to a queue of the caller, which Celery creates when it is first used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from typing import Any

from celery import Celery
from celery.backends.redis import RedisBackend, SentinelBackend
from kombu import Producer

from shared.settings import Settings
from workers.celery_fixes.unread_results import SubscribesToNothing
from workers.config import configuration

# Commands in one batch. A message with its event takes two, and a manifest has fewer layers.
_MOST_AT_ONCE = 20_000

_producer: ContextVar[Producer | None] = ContextVar("_producer", default=None)

# What the app for callbacks takes from ours: how to reach the servers, and how messages are
# serialized. Everything else is Celery's default.
_SHARED = (
    *("broker_url", "result_backend", "broker_connection_timeout"),
    *("broker_transport_options", "result_backend_transport_options"),
    *("redis_socket_timeout", "redis_socket_connect_timeout", "redis_socket_keepalive"),
    *("result_backend_always_retry", "result_backend_max_retries", "task_publish_retry_policy"),
    *("task_serializer", "result_serializer", "accept_content"),
)

# How long a caller's chord that has a pull in its header is kept. Celery's default.
_CHORD_SECONDS = 24 * 3600


class FleetApp(Celery):
    """A Celery app that can send many messages in one round trip.

    `answer_seconds`: how long the answer to a pull is kept in Redis.
    """

    answer_seconds: int

    @cached_property
    def callback_app(self) -> Celery:
        """The app that sends callers' callbacks, to any queue and with Celery's defaults."""
        return _new_callback_app(self)

    def close(self) -> None:
        """Close the connections of this app and of `callback_app`."""
        if "callback_app" in self.__dict__:
            self.callback_app.close()
        super().close()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Send all messages of the block in one round trip at its end, and try that once.

        A chord of forty layers would be eighty round trips, its events included. If the block
        raises, none of them is sent. If sending raises, some may have been sent.
        """
        with self.producer_pool.acquire(block=True) as producer:
            before = _producer.set(producer)
            try:
                with producer.batch(max_size=_MOST_AT_ONCE):  # type: ignore[attr-defined]  # its stubs are older
                    yield
            finally:
                _producer.reset(before)

    def producer_or_acquire(self, producer: Producer | None = None) -> Any:
        """Return the producer for a send; within `at_once`, that of the batch. For Celery."""
        return super().producer_or_acquire(producer or _producer.get())


def make_app(settings: Settings) -> FleetApp:
    """A Celery app for this fleet: for workers, or for a client that only sends."""
    app = FleetApp("towline", set_as_current=False)
    app.answer_seconds = settings.answer_seconds
    app.conf.update(configuration(settings))
    return app


def use_backends(app: Celery, redis: type, sentinel: type) -> None:
    """Replace Celery's result backends in this app. Call it before the first use of its backend."""
    for_redis, for_sentinel = (f"{kind.__module__}:{kind.__name__}" for kind in (redis, sentinel))
    app.loader.override_backends = {
        "redis": for_redis,
        "rediss": for_redis,
        "sentinel": for_sentinel,
    }


class CallbackRedisBackend(SubscribesToNothing, RedisBackend):
    """The result backend of the callback app for `redis://` and `rediss://`."""


class CallbackSentinelBackend(SubscribesToNothing, SentinelBackend):
    """The result backend of the callback app for `sentinel://`."""


def _new_callback_app(fleet: FleetApp) -> Celery:
    """An app for the servers of `fleet`. Results live as long as answers."""
    app = Celery("towline-callbacks", set_as_current=False)
    app.conf.update({name: fleet.conf[name] for name in _SHARED})
    app.conf.update(result_expires=fleet.answer_seconds, result_chord_expires=_CHORD_SECONDS)
    use_backends(app, CallbackRedisBackend, CallbackSentinelBackend)
    return app

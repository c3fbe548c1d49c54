"""A Celery app as one of our callers has it, for the callbacks that they hang on their pulls.

Our own app knows our queues and no other, so that a misspelt name of ours is an error. A caller's
callback goes to a queue of the caller's, which Celery makes when it is first named.
"""

from typing import Any

from celery import Celery
from celery.backends.redis import RedisBackend, SentinelBackend

# How the servers are reached, and in which form messages are written. All else is Celery's default.
_SHARED = (
    *("broker_url", "result_backend", "broker_connection_timeout"),
    *("broker_transport_options", "result_backend_transport_options"),
    *("redis_socket_timeout", "redis_socket_connect_timeout", "redis_socket_keepalive"),
    *("result_backend_always_retry", "result_backend_max_retries", "task_publish_retry_policy"),
    *("task_serializer", "result_serializer", "accept_content"),
)

# Of a chord that a pull is a part of, as Celery has it.
_CHORD_SECONDS = 24 * 3600


class _Deaf:
    """Subscribes to no result of what it sends: only the caller waits for it."""

    def on_task_call(self, *_: Any) -> None:
        """See RedisBackend."""

    def add_pending_result(self, result: Any, *_: Any, **__: Any) -> Any:
        """See AsyncBackendMixin."""
        return result


class OutwardRedisBackend(_Deaf, RedisBackend):
    """`redis://` and `rediss://`."""


class OutwardSentinelBackend(_Deaf, SentinelBackend):
    """`sentinel://`."""


def outward_app(app: Any) -> Celery:
    """The app for this fleet's broker and results."""
    outward = Celery("towline-callbacks", set_as_current=False)
    outward.conf.update({name: app.conf[name] for name in _SHARED})
    outward.conf.update(result_expires=app.answer_seconds, result_chord_expires=_CHORD_SECONDS)
    outward.loader.override_backends = {
        "redis": f"{__name__}:{OutwardRedisBackend.__name__}",
        "rediss": f"{__name__}:{OutwardRedisBackend.__name__}",
        "sentinel": f"{__name__}:{OutwardSentinelBackend.__name__}",
    }
    return outward

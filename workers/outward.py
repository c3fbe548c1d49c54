"""A Celery app like a caller's, to send the callbacks that callers attach to their pulls.

Our own app refuses queues that it does not know, so that a misspelt queue of ours is an error. A
caller's callback goes to a queue of the caller, which Celery creates when it is first used.
"""

from typing import Any

from celery import Celery
from celery.backends.redis import RedisBackend, SentinelBackend

# How to reach the servers, and how messages are serialized. Everything else is Celery's default.
_SHARED = (
    *("broker_url", "result_backend", "broker_connection_timeout"),
    *("broker_transport_options", "result_backend_transport_options"),
    *("redis_socket_timeout", "redis_socket_connect_timeout", "redis_socket_keepalive"),
    *("result_backend_always_retry", "result_backend_max_retries", "task_publish_retry_policy"),
    *("task_serializer", "result_serializer", "accept_content"),
)

# How long a caller's chord that has a pull in its header is kept. Celery's default.
_CHORD_SECONDS = 24 * 3600


class _WithoutSubscriptions:
    """Does not subscribe to results of the tasks that it sends: only the caller waits for them."""

    def on_task_call(self, *_: Any) -> None:
        """RedisBackend would subscribe to the result here."""

    def add_pending_result(self, result: Any, *_: Any, **__: Any) -> Any:
        """AsyncBackendMixin would subscribe to the result here."""
        return result


class OutwardRedisBackend(_WithoutSubscriptions, RedisBackend):
    """The result backend for `redis://` and `rediss://`."""


class OutwardSentinelBackend(_WithoutSubscriptions, SentinelBackend):
    """The result backend for `sentinel://`."""


def make_callback_app(app: Any) -> Celery:
    """A new app for the broker and the result store of `app`; results live as long as answers."""
    outward = Celery("towline-callbacks", set_as_current=False)
    outward.conf.update({name: app.conf[name] for name in _SHARED})
    outward.conf.update(result_expires=app.answer_seconds, result_chord_expires=_CHORD_SECONDS)
    outward.loader.override_backends = {
        "redis": f"{__name__}:{OutwardRedisBackend.__name__}",
        "rediss": f"{__name__}:{OutwardRedisBackend.__name__}",
        "sentinel": f"{__name__}:{OutwardSentinelBackend.__name__}",
    }
    return outward

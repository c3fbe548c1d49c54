"""The error for a Redis that does not answer, and a check whether it does."""

from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

# What kombu and redis-py raise for a server that is unreachable or refuses to work.
REDIS_ERRORS = (OperationalError, RedisError, OSError)


class QueueUnavailable(Exception):
    """Redis cannot be reached. The first argument is the finished sentence for the operator."""


@contextmanager
def translating_errors() -> Iterator[None]:
    """Raise QueueUnavailable for any error of Redis in this block."""
    try:
        yield
    except REDIS_ERRORS as error:
        raise QueueUnavailable("The queue cannot be reached.") from error


def check_queue(app: Celery) -> None:
    """Raises QueueUnavailable unless the broker answers."""
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=5)
    except (OperationalError, OSError) as error:
        raise QueueUnavailable(
            "The queue cannot be reached: check TOWLINE_BROKER_URL and that Redis runs."
        ) from error

"""Celery's worker ends when it receives a message of a shape that it does not expect.

Its handler of messages catches what a serializer raises, and takes everything else for granted: a
body that is a list of three, an id, a name that can be looked up. Without them it raises a
TypeError, a ValueError or a KeyError. The worker exits, the message goes back to its queue and ends
the next worker; after a KeyError, which kombu takes for a lost connection, it reconnects for ever.
With args or kwargs of another type the task's thread raises, and the pool loses a slot. Here each
message is read by a function of ours before Celery sees it.

Seen in Celery 5.7.0 (`create_task_handler` in celery/worker/consumer/consumer.py,
`task_message_handler` in celery/worker/strategy.py, `Request.__init__`):
https://github.com/celery/celery/issues/7975 and https://github.com/celery/celery/issues/4308 (both
open).
"""

from collections.abc import Callable
from typing import Any

from kombu.message import Message


def read_first(consumer: Any, is_readable: Callable[[Message], bool]) -> None:
    """Have Celery handle only the messages for which `is_readable` returns True. That function must
    reject the others; it may also change a message.
    """
    create, decode_error = consumer.create_task_handler, consumer.on_decode_error

    def create_reading_handler() -> Callable[[Message], Any]:
        handle = create()

        def read_and_handle(message: Message) -> Any:
            return handle(message) if is_readable(message) else None

        return read_and_handle

    def on_decode_error(message: Message, error: Exception) -> Any:
        # kombu calls this instead of the handler if it could not decompress the body.
        if message.errors:
            return consumer.task_consumer.on_message(message)
        return decode_error(message, error)

    # Celery reads both attributes when it begins to consume.
    consumer.create_task_handler = create_reading_handler
    consumer.on_decode_error = on_decode_error

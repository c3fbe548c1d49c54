"""kombu puts a message that is given back behind all others of its queue.

`QoS.reject` with `requeue` pushes the message on the left of the list, where senders push too, and
workers read from the right. AMQP puts it at the head. So a layer that a worker began an hour ago
would wait behind everything that was sent since, only because the worker was restarted.

A message that is left unacknowledged goes to the head: kombu pushes it on the right when the
connection of its worker closes.

Seen in kombu 5.7.0 (kombu/transport/redis.py). https://github.com/celery/kombu/issues/1742 (open)
asks for the head; https://github.com/celery/kombu/pull/254 (closed) is about the difference to
AMQP.
"""

from celery.worker.request import Request

from workers.process.grace_time import grace_time


class KeepsItsPlace(Request):
    """A message that an ending worker gives back is the next to be taken from its queue."""

    def reject(self, requeue: bool = False) -> None:
        """Leave the message unacknowledged while the worker ends; its connection closes soon."""
        if not (requeue and grace_time.is_over()):
            super().reject(requeue=requeue)

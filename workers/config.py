"""Celery's settings, each with its reason. docs/celery.md has more on them, and measurements."""

from typing import Any

from kombu import Exchange, Queue

from shared.settings import Settings
from workers import contract

_DAY_SECONDS = 24 * 3600

# How long results of our own tasks are kept. Only their chord reads them, and that at once.
RESULT_SECONDS = 60

# All apps on this broker must use the same value: each may redeliver any message, after its own
# time-out.
_VISIBILITY_TIMEOUT_SECONDS = _DAY_SECONDS

_SOCKET_TIMEOUT_SECONDS = 15
_SOCKET_CONNECT_TIMEOUT_SECONDS = 5


def configuration(settings: Settings) -> dict[str, Any]:
    """Celery's configuration for these settings. It contains the URLs with their passwords."""
    return {
        **_connections(settings),
        **_DELIVERY,
        **_WIRE,
        **_RESULTS,
        **_MONITORING,
        # Celery uses this for SIGQUIT only. All other ways to end a worker are in
        # `workers/process/grace_time.py`.
        "worker_soft_shutdown_timeout": settings.grace_seconds,
    }


def _connections(settings: Settings) -> dict[str, Any]:
    broker = settings.broker_url.get_secret_value() if settings.broker_url else None
    result = settings.result_url.get_secret_value() if settings.result_url else broker
    return {
        "broker_url": broker,
        "result_backend": result,
        "broker_connection_timeout": _SOCKET_CONNECT_TIMEOUT_SECONDS,
        "broker_transport_options": {
            "visibility_timeout": _VISIBILITY_TIMEOUT_SECONDS,
            # By name, since Celery shows its settings as JSON.
            "queue_order_strategy": "workers.queues.queue_order:QueueOrder",
            "unacked_restore_interval": 10,
            # Check for unacknowledged messages every 10 s, not every 100 s (kombu#2558).
            "unacked_restore_throttle": 1,
            # Without time-outs, a send to a Redis that hangs never returns.
            "socket_timeout": _SOCKET_TIMEOUT_SECONDS,
            "socket_connect_timeout": _SOCKET_CONNECT_TIMEOUT_SECONDS,
            "socket_keepalive": True,
        },
        "redis_socket_timeout": _SOCKET_TIMEOUT_SECONDS,
        "redis_socket_connect_timeout": _SOCKET_CONNECT_TIMEOUT_SECONDS,
        "redis_socket_keepalive": True,
    }


_DELIVERY: dict[str, Any] = {
    # A killed worker's messages come back. So every step may run twice.
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "task_acks_on_failure_or_timeout": True,
    # One message per slot. A retry raises the prefetch count only while it waits for its time. So
    # `worker_disable_prefetch` would change nothing: with celery 5.7.0 we counted 4 unacknowledged
    # messages for 4 slots after 1,000 retries, and after 600 with four cut connections, both in
    # threads and in processes.
    "worker_prefetch_multiplier": 1,
    # On Redis, acknowledgements survive a reconnect: cancelling would only run layers twice.
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # A full or read-only Redis is an outage, not a reason to exit (celery#7946).
    "broker_channel_error_retry": True,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    "worker_max_tasks_per_child": 200,
    # A send to a dead Redis fails in half a second instead of hanging.
    "task_publish_retry_policy": {
        "max_retries": 3,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.5,
    },
}

_WIRE: dict[str, Any] = {
    "task_serializer": "json",
    "result_serializer": "json",
    "accept_content": ["json"],
    # One exchange per queue, named like the queue: that is what clients without our settings
    # declare for `queue=`.
    "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in contract.QUEUES],
    "task_default_queue": contract.CONTROL,
    "task_create_missing_queues": False,
    "task_routes": {name: {"queue": queue} for name, queue in contract.QUEUE_OF.items()},
}

_RESULTS: dict[str, Any] = {
    # Answers to pulls are kept for longer: TOWLINE_ANSWER_SECONDS.
    "result_expires": RESULT_SECONDS,
    # An answer deletes the chord of its pull. This is for pulls that are never answered.
    "result_chord_expires": _DAY_SECONDS,
    "result_backend_always_retry": True,
    "result_backend_max_retries": 20,
}

_MONITORING: dict[str, Any] = {
    "task_track_started": True,
    "task_send_sent_event": True,
    "worker_send_task_events": True,
    "worker_hijack_root_logger": True,
}

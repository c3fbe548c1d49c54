"""Count the slots of the workers. A thread asks them, since Celery waits for the slowest answer."""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery import Celery

from workers import contract
from workers.queues.queue_access import REDIS_ERRORS

_log = logging.getLogger(__name__)

_ANSWER_SECONDS = 1.0
_EVERY_SECONDS = 10.0
# A worker that has not answered for this long counts as gone.
_FORGOTTEN_SECONDS = 45.0


@dataclass(frozen=True, slots=True)
class WorkerSlots:
    """How many layers, and how many pulls, all workers together can run at once.

    0 if no worker consumes the queue.
    """

    layer_slots: int
    pull_slots: int


@dataclass(slots=True)
class _Worker:
    queues: frozenset[str]
    slots: int
    seen_at: float


class SlotCounter:
    """The workers that have answered within the last 45 seconds."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._known: dict[str, _Worker] = {}
        self._asked_at = float("-inf")
        self._answered = False
        self._thread: threading.Thread | None = None

    def count(self) -> WorkerSlots | None:
        """Return the slots that are known now; None before the first answer. Never waits.

        If the last question is more than ten seconds old, this asks the workers again in a thread,
        and a later call sees the answer.
        """
        now = time.monotonic()
        if now - self._asked_at > _EVERY_SECONDS and not self._is_asking():
            self._asked_at = now
            self._thread = threading.Thread(target=self._ask, name="slot-counter", daemon=True)
            self._thread.start()
        if not self._answered:
            return None
        alive = [
            worker
            for worker in self._known.copy().values()
            if now - worker.seen_at < _FORGOTTEN_SECONDS
        ]
        return WorkerSlots(
            sum(worker.slots for worker in alive if contract.LAYERS in worker.queues),
            sum(worker.slots for worker in alive if contract.PULLS in worker.queues),
        )

    def _is_asking(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _ask(self) -> None:
        inspect = self._app.control.inspect(timeout=_ANSWER_SECONDS)
        try:
            queues: Mapping[str, Any] = inspect.active_queues() or {}
            stats: Mapping[str, Any] = inspect.stats() or {}
        except REDIS_ERRORS as error:
            _log.warning("The workers cannot be counted, since Redis did not answer: %s", error)
            return
        now = time.monotonic()
        for name in queues.keys() & stats.keys():
            self._known[name] = _Worker(
                frozenset(queue["name"] for queue in queues[name]),
                int(stats[name].get("pool", {}).get("max-concurrency", 1)),
                now,
            )
        self._answered = True

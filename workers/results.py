"""The result backend of the workers: what Celery stores of its own accord, and what it must not.

Results that Redis refuses end no task. Celery stores a task's result before it acknowledges the
message. Where Redis is full that raises, and in a pool of threads nothing catches it: the message
is never acknowledged and its slot is lost (celery 5.7.0, `trace_task` → `mark_as_done`, then
`mark_as_failure`, into a future that is never read). Here it is logged. A chord that misses the
result is finished by the reconciler; `workers/answering.py` stores the answers themselves and does
hear of a refusal.

Under a pull id only `answer` writes. The end that Celery gives a message (expired, revoked, a hard
time limit) is told where no row of the pull stands; where one does, the row decides how it ends.

No task waits for what it sends: that is a chord's part. Celery subscribes to the result of each
header task all the same, and never reads what comes.
"""

import logging
from collections.abc import Callable
from functools import cached_property
from typing import Any

from celery import Celery, states
from celery.backends import redis

from workers import contract
from workers.config import RESULT_SECONDS
from workers.resources import is_recorded

_log = logging.getLogger(__name__)

# Its stubs are older.
_redis: Any = redis

# A part without a size comes after the answer: to count it would make the keys again, for a day.
_PART_RETURN = f"""
if redis.call('EXISTS', KEYS[3]) == 0 then return {{-1, 0, 0, 0}} end
{_redis.CHORD_PART_RETURN_LUA}
"""
# Celery marks a chord as done for five minutes. The missing size says as much.
_CLEANUP = f"""
ARGV[2] = '{RESULT_SECONDS}'
{_redis.CHORD_CLEANUP_LUA}
"""


class _Tolerant(_redis.RedisBackend):  # type: ignore[misc]
    """What Celery calls when a task changes its state, or sends others."""

    def mark_as_started(self, *args: Any, **kwargs: Any) -> Any:
        return _tried(super().mark_as_started, *args, **kwargs)

    def mark_as_done(self, task_id: str, result: Any, request: Any = None, *args: Any) -> Any:
        if _is(contract.PULL_IMAGE, request):
            return None
        return _tried(super().mark_as_done, task_id, result, request, *args)

    def mark_as_retry(self, *args: Any, request: Any = None, **kwargs: Any) -> Any:
        if _is(contract.PULL_IMAGE, request):
            return None
        return _tried(super().mark_as_retry, *args, request=request, **kwargs)

    def mark_as_failure(self, task_id: str, *args: Any, request: Any = None, **kwargs: Any) -> Any:
        if _is(contract.PULL_IMAGE, request):
            return self._tell("mark_as_failure", task_id, *args, request=request, **kwargs)
        return _tried(super().mark_as_failure, task_id, *args, request=request, **kwargs)

    def mark_as_revoked(self, task_id: str, *args: Any, request: Any = None, **kwargs: Any) -> Any:
        # Remote control revokes an id, whatever task it may be of.
        if request is None or _is(contract.PULL_IMAGE, request):
            return self._tell("mark_as_revoked", task_id, *args, request=request, **kwargs)
        return _tried(super().mark_as_revoked, task_id, *args, request=request, **kwargs)

    def _tell(
        self, mark: str, task_id: str, *args: Any, store_result: bool = True, **kwargs: Any
    ) -> None:
        """Celery ended this message; with `store_result` False its task did, and has answered."""
        if store_result and not is_recorded(task_id):
            outward = self.app.outward.backend
            _tried(getattr(outward, mark), task_id, *args, **kwargs)

    def add_pending_result(self, result: Any, *args: Any, **kwargs: Any) -> Any:
        if self.app.current_worker_task:
            return result
        return super().add_pending_result(result, *args, **kwargs)

    def _store_result(
        self, task_id: str, result: Any, state: str, *args: Any, request: Any = None, **kwargs: Any
    ) -> Any:
        stored = super()._store_result(task_id, result, state, *args, request=request, **kwargs)
        if state in states.READY_STATES and _is(contract.CANCEL_PULL, request):
            # Its caller waits for it as for the answer to a pull.
            self.expire(self.get_key_for_task(task_id), self.app.answer_seconds)
        return stored

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """The chord of a pull has the pull's id: one that is planned again begins again."""
        keys = [self.get_key_for_group(group_id, part) for part in (".c", ".j", ".t", ".d")]
        self.ensure(self.client.delete, tuple(keys))
        self._set_chord_key(self.get_key_for_group(group_id, ".s"), chord_size)

    @cached_property
    def _chord_part_return_script(self) -> Any:
        return self.client.register_script(_PART_RETURN)

    @cached_property
    def _chord_cleanup_script(self) -> Any:
        return self.client.register_script(_CLEANUP)


class TolerantRedisBackend(_Tolerant):
    """`redis://` and `rediss://`."""


class TolerantSentinelBackend(_Tolerant, redis.SentinelBackend):
    """`sentinel://`."""


def install(app: Celery) -> None:
    """For the worker that this app becomes; before anything asks for its backend."""
    app.loader.override_backends = {
        "redis": f"{__name__}:{TolerantRedisBackend.__name__}",
        "rediss": f"{__name__}:{TolerantRedisBackend.__name__}",
        "sentinel": f"{__name__}:{TolerantSentinelBackend.__name__}",
    }


def _is(name: str, request: Any) -> bool:
    return getattr(request, "task", None) == name


def _tried(mark: Callable[..., Any], task_id: str, *args: Any, **kwargs: Any) -> Any:
    try:
        return mark(task_id, *args, **kwargs)
    except Exception as error:
        _log.warning("The result of the task %s was not stored: %s", task_id, error)
        return None

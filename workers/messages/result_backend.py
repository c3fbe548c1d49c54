"""The result backend of the workers. It differs from Celery's own in what it stores.

Only `answer` writes under a pull id. Celery may end a message itself: it expired, was revoked or
hit a hard time limit. That end is stored only if the pull has no row, and never over an answer. If
the pull has a row, the row decides how it ends.

The chord of a pull has the pull's id. So keys of an earlier chord may be left when the pull is
planned again, and header tasks may end after the answer has deleted the chord.
"""

from functools import cached_property
from typing import Any

from celery import Celery, states
from celery.backends import redis

from workers import contract
from workers.celery_apps import use_backends
from workers.celery_fixes.refused_results import MayMissResults, logged_if_refused
from workers.celery_fixes.unread_results import SubscribesOutsideTasksOnly
from workers.config import RESULT_SECONDS
from workers.resources import is_recorded

# The type stubs are older than the module.
_redis: Any = redis

# If a chord has no size, its pull is answered already. A header task that ends later is not
# counted: counting it would create the keys again, for a day.
_PART_RETURN = f"""
if redis.call('EXISTS', KEYS[3]) == 0 then return {{-1, 0, 0, 0}} end
{_redis.CHORD_PART_RETURN_LUA}
"""
# Celery would remember for five minutes that a chord is done. The missing size says that already.
_CLEANUP = f"""
ARGV[2] = '{RESULT_SECONDS}'
{_redis.CHORD_CLEANUP_LUA}
"""


class _FleetBackend(MayMissResults, SubscribesOutsideTasksOnly, _redis.RedisBackend):  # type: ignore[misc]
    """The rules above, for any of Celery's Redis backends."""

    def mark_as_done(self, task_id: str, result: Any, request: Any = None, *args: Any) -> Any:
        if _is(contract.PULL_IMAGE, request):
            return None
        return super().mark_as_done(task_id, result, request, *args)

    def mark_as_retry(self, *args: Any, request: Any = None, **kwargs: Any) -> Any:
        if _is(contract.PULL_IMAGE, request):
            return None
        return super().mark_as_retry(*args, request=request, **kwargs)

    def mark_as_failure(self, task_id: str, *args: Any, request: Any = None, **kwargs: Any) -> Any:
        if _is(contract.PULL_IMAGE, request):
            return self._end_pull("mark_as_failure", task_id, *args, request=request, **kwargs)
        return super().mark_as_failure(task_id, *args, request=request, **kwargs)

    def mark_as_revoked(self, task_id: str, *args: Any, request: Any = None, **kwargs: Any) -> Any:
        # Remote control revokes an id without a request: it may be a pull's.
        if request is None or _is(contract.PULL_IMAGE, request):
            return self._end_pull("mark_as_revoked", task_id, *args, request=request, **kwargs)
        return super().mark_as_revoked(task_id, *args, request=request, **kwargs)

    def _end_pull(
        self, mark: str, task_id: str, *args: Any, store_result: bool = True, **kwargs: Any
    ) -> None:
        """Store the end that Celery gave a pull's message, if the pull has no row and no answer.

        `store_result` is False if the task itself has ended; then it has answered.
        """
        if store_result and not is_recorded(task_id):
            logged_if_refused(self._end_unanswered, task_id, mark, *args, **kwargs)

    def _end_unanswered(self, task_id: str, mark: str, *args: Any, **kwargs: Any) -> None:
        backend = self.app.callback_app.backend
        # Raises at once if the store is away. To mark would try for a minute, in the thread that
        # consumes messages.
        if not backend.task_result_exists(task_id):
            getattr(backend, mark)(task_id, *args, **kwargs)

    def _store_result(
        self, task_id: str, result: Any, state: str, *args: Any, request: Any = None, **kwargs: Any
    ) -> Any:
        stored = super()._store_result(task_id, result, state, *args, request=request, **kwargs)
        if state in states.READY_STATES and _is(contract.CANCEL_PULL, request):
            # A caller waits for it, as for the answer to a pull: keep it for as long.
            self.expire(self.get_key_for_task(task_id), self.app.answer_seconds)
        return stored

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        """Start counting a chord, after its keys of an earlier plan of the pull are deleted."""
        keys = [self.get_key_for_group(group_id, part) for part in (".c", ".j", ".t", ".d")]
        self.ensure(self.client.delete, tuple(keys))
        self._set_chord_key(self.get_key_for_group(group_id, ".s"), chord_size)

    @cached_property
    def _chord_part_return_script(self) -> Any:
        return self.client.register_script(_PART_RETURN)

    @cached_property
    def _chord_cleanup_script(self) -> Any:
        return self.client.register_script(_CLEANUP)


class FleetRedisBackend(_FleetBackend):
    """The result backend for `redis://` and `rediss://`."""


class FleetSentinelBackend(_FleetBackend, redis.SentinelBackend):
    """The result backend for `sentinel://`."""


def install(app: Celery) -> None:
    """Use this backend in the app's workers. Call it before the first use of `app.backend`."""
    use_backends(app, FleetRedisBackend, FleetSentinelBackend)


def _is(name: str, request: Any) -> bool:
    return getattr(request, "task", None) == name

"""Which data Redis holds, and which run of its server answers: so that a loss is noticed."""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from celery import Celery
from celery.backends.redis import RedisBackend
from redis.exceptions import RedisError

from workers.queues.kombu_storage import KombuStorage
from workers.queues.queue_access import REDIS_ERRORS, translating_errors

_EPOCH_KEY = "towline:epoch"


@dataclass(frozen=True, slots=True)
class RedisIdentity:
    """Which data Redis holds, and which run of its server answered.

    `epoch`: the value of a key of ours; None once Redis has lost everything. A separate result
    store has the same key. `run_id`: of the server, or of both; None if a server does not say.
    `unacknowledged`: how many messages workers have fetched and not acknowledged.
    """

    epoch: str | None
    run_id: str | None
    unacknowledged: int = field(default=0, compare=False)


class RedisIdentities:
    """Reads the identity of the broker and of a separate result store. Raises QueueUnavailable."""

    def __init__(self, app: Celery, storage: KombuStorage) -> None:
        self._storage = storage
        self._results = _separate_results(app)
        # The last epoch and run of the result store. While the store is unavailable, they are taken
        # to be unchanged, since nothing is known to be lost.
        self._seen_in_results: tuple[str | None, str | None] | None = None

    def read(self) -> RedisIdentity:
        """The identity now; one round trip to each server."""
        with translating_errors(), self._storage.client.pipeline(transaction=False) as pipe:
            self._storage.count_fetched(pipe)
            fetched, epoch, run_id = _execute(pipe)
        if self._results is not None:
            with suppress(*REDIS_ERRORS), self._results.pipeline(transaction=False) as pipe:
                *_, epoch_of_results, run_of_results = _execute(pipe)
                self._seen_in_results = epoch_of_results, run_of_results
            if self._seen_in_results is None:
                return RedisIdentity(epoch, None, fetched)
            epoch_of_results, run_of_results = self._seen_in_results
            # If either of the two servers has lost its data, that counts as a loss of everything.
            epoch = epoch if epoch == epoch_of_results else None
            run_id = f"{run_id} {run_of_results}" if run_id and run_of_results else None
        return RedisIdentity(epoch, run_id, fetched)

    def begin_epoch(self, value: str) -> None:
        """Write our key, whose absence will tell that Redis has lost everything."""
        with translating_errors():
            self._storage.client.set(_EPOCH_KEY, value)
        if self._results is not None:
            # If it is unavailable now, its epoch will differ later, which counts as a loss.
            with suppress(*REDIS_ERRORS):
                self._results.set(_EPOCH_KEY, value)


def _separate_results(app: Celery) -> Any:
    """A client of the result store; None if that is the broker, or is not Redis."""
    backend: Any = app.backend
    if app.conf.result_backend == app.conf.broker_url or not isinstance(backend, RedisBackend):
        return None
    return backend.client


def _execute(pipe: Any) -> list[Any]:
    """Run the pipeline. Its answers, then our key, then the server's run. Raises RedisError."""
    *before, epoch, server = pipe.get(_EPOCH_KEY).info("server").execute(raise_on_error=False)
    for answer in (*before, epoch):
        if isinstance(answer, RedisError):
            raise answer
    # An ACL may refuse INFO, and not every server has a `run_id`.
    run_id = server.get("run_id") if isinstance(server, dict) else None
    return [*before, epoch.decode() if isinstance(epoch, bytes) else epoch, run_id]

"""The faults of the soak: functions that inject one and leave a fleet that can continue."""

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.acceptance.faults.fleet import FaultyFleet
from tests.acceptance.faults.processes import children, tree
from tests.acceptance.faults.separate_node import SeparateNode, start_separately
from tests.acceptance.faults.servers import OwnPostgres, OwnRedis
from tests.acceptance.fleet import Worker

_OUTAGE_SECONDS = 5.0
_READ_ONLY_SECONDS = 10.0
# Longer than the server's idle_in_transaction_session_timeout.
_STANDSTILL_SECONDS = 14.0


@dataclass
class Target:
    """What faults can be injected into. `kills`: an upper bound of the layers that were cut off;
    each may cost a chunk.
    """

    fleet: FaultyFleet
    postgres: OwnPostgres
    redis: OwnRedis
    dice: random.Random
    kills: int = 0

    @property
    def workers(self) -> list[Worker]:
        """The workers that are alive."""
        return [worker for worker in self.fleet.workers if worker.process.poll() is None]

    def cut_off(self, worker: Worker) -> None:
        """Count the layers that this worker is about to lose."""
        pids = tree(worker.process.pid)
        owners = self.fleet.sql("SELECT owner FROM leases WHERE owner IS NOT NULL")
        self.kills += sum(int(owner.rpartition(":")[2]) in pids for (owner,) in owners)

    def replace(self, pool: str = "threads") -> None:
        """Start a worker in place of one that is gone."""
        self.fleet.launch_worker(pool)


def kill_child(target: Target) -> None:
    owners = target.fleet.sql("SELECT owner FROM leases WHERE owner IS NOT NULL")
    at_work = {int(owner.rpartition(":")[2]) for (owner,) in owners}
    for worker in target.workers:
        pids = children(worker.process.pid)
        # Prefer a child in the middle of a layer.
        for pid in [*sorted(at_work & set(pids)), *pids][:1]:
            target.kills += pid in at_work
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def kill_worker(target: Target) -> None:
    worker = target.dice.choice(target.workers)
    target.cut_off(worker)
    worker.kill()
    target.replace()


def kill_all_workers(target: Target) -> None:
    for worker in target.workers:
        target.cut_off(worker)
        worker.kill()
    for pool in ("threads", "threads", "prefork"):
        target.replace(pool)


def kill_node(target: Target) -> None:
    for reconciler in target.fleet.reconcilers:
        if reconciler.process.poll() is None:
            reconciler.kill()
    kill_worker(target)
    for _ in range(2):
        target.fleet.launch_reconciler()


def freeze_worker(target: Target) -> None:
    worker = target.dice.choice(target.workers)
    target.cut_off(worker)
    worker.freeze()
    time.sleep(_OUTAGE_SECONDS)
    worker.thaw()


def freeze_workers_long(target: Target) -> None:
    for worker in target.workers:
        target.cut_off(worker)
        worker.freeze()
    time.sleep(_STANDSTILL_SECONDS)
    for worker in target.workers:
        worker.thaw()


def sick_node(target: Target) -> None:
    """Start a worker whose node is sick for some seconds."""
    node = start_separately(target.fleet, target.dice.choice(["threads", "prefork"]))
    fall_sick = target.dice.choice(
        [SeparateNode.make_read_only, SeparateNode.lose_volume, SeparateNode.lose_threads]
    )
    fall_sick(node)
    time.sleep(_OUTAGE_SECONDS)
    node.heal()
    # Its mounts are private and disappear with it.
    node.worker.process.terminate()


def term_worker(target: Target) -> None:
    target.dice.choice(target.workers).process.terminate()
    target.replace()


def quit_worker(target: Target) -> None:
    worker = target.dice.choice(target.workers)
    target.cut_off(worker)
    worker.process.send_signal(signal.SIGQUIT)
    target.replace()


def term_then_kill_worker(target: Target) -> None:
    worker = target.dice.choice(target.workers)
    target.cut_off(worker)
    worker.process.terminate()
    time.sleep(1)
    worker.kill()
    target.replace()


def redis_killed(target: Target) -> None:
    target.redis.end(signal.SIGKILL)
    target.redis.start_again()


def redis_killed_without_file(target: Target) -> None:
    target.redis.end(signal.SIGKILL)
    target.redis.forget()
    target.redis.start_again()


def redis_flushed(target: Target) -> None:
    with target.redis.client() as client:
        client.flushall()


def redis_frozen(target: Target) -> None:
    target.redis.freeze()
    time.sleep(_OUTAGE_SECONDS)
    target.redis.thaw()


def redis_full(target: Target) -> None:
    with target.redis.client() as client:
        client.config_set("maxmemory", "1mb")
        time.sleep(_OUTAGE_SECONDS)
        client.config_set("maxmemory", "0")


def chords_evicted(target: Target) -> None:
    _delete(target, "celery-taskset-meta-*")


def queues_evicted(target: Target) -> None:
    _delete(target, "towline.*", "unacked*")


def messages_twice(target: Target) -> None:
    with target.redis.client() as client:
        for queue in ("towline.pulls", "towline.layers"):
            for raw in client.lrange(queue, 0, -1):
                client.lpush(queue, raw)


def postgres_restarted(target: Target) -> None:
    target.postgres.end(signal.SIGQUIT)
    target.postgres.start_again()


def postgres_frozen(target: Target) -> None:
    target.postgres.freeze()
    time.sleep(_OUTAGE_SECONDS)
    target.postgres.thaw()


def postgres_read_only(target: Target) -> None:
    _alter_system(target, "SET default_transaction_read_only = on")
    time.sleep(_READ_ONLY_SECONDS)
    _alter_system(target, "RESET default_transaction_read_only")


def _alter_system(target: Target, what: str) -> None:
    with psycopg.connect(target.fleet.database_url, autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM {what}".encode())
        connection.execute("SELECT pg_reload_conf()")


STRIKES: Mapping[str, Callable[[Target], None]] = {
    strike.__name__: strike
    for strike in (
        kill_child,
        kill_worker,
        kill_all_workers,
        kill_node,
        freeze_worker,
        freeze_workers_long,
        sick_node,
        term_worker,
        quit_worker,
        term_then_kill_worker,
        redis_killed,
        redis_killed_without_file,
        redis_flushed,
        redis_frozen,
        redis_full,
        chords_evicted,
        queues_evicted,
        messages_twice,
        postgres_restarted,
        postgres_frozen,
        postgres_read_only,
    )
}


def _delete(target: Target, *patterns: str) -> None:
    with target.redis.client() as client:
        keys: list[Any] = [key for pattern in patterns for key in client.keys(pattern)]
        if keys:
            client.delete(*keys)

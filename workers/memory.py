"""How a worker process keeps small from its start on; while layers come, its keeper sees to it."""

import gc
from typing import Any, clear_overloads

from celery.signals import celeryd_init, worker_ready

from shared import allocator


def install() -> None:
    """From here on, in every worker process, those that it forks included."""
    celeryd_init.connect(_begin)
    worker_ready.connect(_tidy)


def _begin(**_: Any) -> None:
    allocator.use_one_arena()


def _tidy(**_: Any) -> None:
    """What only the start needed, or only a type checker: redis-py alone has 800 overloads."""
    clear_overloads()
    gc.collect()
    allocator.give_back()

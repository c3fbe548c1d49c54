"""How a worker process keeps small from its start on; while layers come, its keeper sees to it."""

import gc
from typing import Any

from celery.signals import celeryd_init, worker_ready

from shared import allocator


def install() -> None:
    """From here on, in every worker process, those that it forks included."""
    celeryd_init.connect(_begin)
    worker_ready.connect(_tidy)


def _begin(**_: Any) -> None:
    allocator.use_one_arena()


def _tidy(**_: Any) -> None:
    """What only the start needed."""
    gc.collect()
    allocator.give_back()

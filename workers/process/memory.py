"""Keeps worker processes small from their start on. During downloads the lease renewer does."""

import gc
from typing import Any, clear_overloads

from celery.signals import celeryd_init, worker_ready

from shared import allocator


def install() -> None:
    """Apply this to every worker process of this app, forked ones included."""
    celeryd_init.connect(_begin)
    worker_ready.connect(_tidy)


def _begin(**_: Any) -> None:
    allocator.use_one_arena()


def _tidy(**_: Any) -> None:
    """Free what is needed only during the start, or only by type checkers: redis-py alone registers
    800 overloads.
    """
    clear_overloads()
    gc.collect()
    allocator.return_free_pages()

"""How a worker process keeps small: what the C library would hold on to is given back.

Every thread that fetches would get an arena of its own, and each arena keeps what was freed in it.
They would gain nothing: Python's threads allocate one at a time.
"""

import ctypes
import gc
from collections.abc import Callable
from typing import Any

from celery.signals import celeryd_init, worker_ready

# glibc's malloc.h; other C libraries have no mallopt, or ignore it.
_M_ARENA_MAX = -8


def install() -> None:
    """From here on, in every worker process, those that it forks included."""
    celeryd_init.connect(_one_arena)
    worker_ready.connect(_trim)


def _one_arena(**_: Any) -> None:
    _call("mallopt", _M_ARENA_MAX, 1)


def _trim(**_: Any) -> None:
    """What only the start needed."""
    gc.collect()
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)

"""Keeps a worker process small: one arena of glibc's malloc, and its free pages returned.

By default glibc gives threads separate arenas and keeps freed memory. Blocks of different sizes,
which several connections allocate and which wait to be hashed, fragment these arenas, and a worker
grows by a megabyte for each gigabyte that it fetches. So

    use_one_arena        before any thread starts (workers/app.py)
    free_startup_memory  once the worker is ready (workers/app.py)
    return_free_pages    each second while layers arrive (the lease renewer)

This is code because `celery -A workers.app worker`, started without any environment, must stay
small too. `MALLOC_TRIM_THRESHOLD_` would not replace it: it returns the end of the heap, and the
gaps are in its middle. Mapping each block by itself would (`MALLOC_MMAP_THRESHOLD_`), for half a
second of processor time per GiB. Measured: docs/performance.md, "Memory".

Other C libraries lack these functions; there the calls do nothing.
"""

import ctypes
import gc
from collections.abc import Callable
from typing import clear_overloads

# malloc.h
_M_ARENA_MAX = -8


def use_one_arena() -> None:
    """Let all threads started from now on share one arena. Contention is no concern: Python's
    threads allocate while they hold the GIL.
    """
    _call("mallopt", _M_ARENA_MAX, 1)


def free_startup_memory() -> None:
    """Free what is needed only during the start, or only by type checkers: redis-py alone registers
    800 overloads.
    """
    clear_overloads()
    gc.collect()
    return_free_pages()


def return_free_pages() -> None:
    """Return all free pages to the operating system. Takes about a millisecond."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)

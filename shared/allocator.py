"""Tunes glibc's malloc for a process that fetches layers over many connections.

By default glibc gives threads separate arenas and keeps freed memory. Blocks of different sizes,
which several connections allocate and which wait to be hashed, fragment these arenas. Without this
module a worker grows by a megabyte for each gigabyte that it fetches. Other C libraries lack these
functions; there the calls do nothing.
"""

import ctypes
from collections.abc import Callable

# malloc.h
_M_ARENA_MAX = -8


def use_one_arena() -> None:
    """Let all threads started from now on share one arena. Contention is no concern: Python's
    threads allocate while they hold the GIL.
    """
    _call("mallopt", _M_ARENA_MAX, 1)


def return_free_pages() -> None:
    """Return all free pages to the operating system. Takes about a millisecond."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)

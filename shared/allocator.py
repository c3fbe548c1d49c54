"""The C library's allocator, told how a process that fetches layers lives.

glibc gives every thread an arena of its own and keeps what was freed. Blocks of many sizes, from
many connections, each waiting for its turn to be hashed, leave holes all over: without this a
worker grows by a megabyte for each gigabyte that it fetches. Other C libraries have none of it.
"""

import ctypes
from collections.abc import Callable

# malloc.h
_M_ARENA_MAX = -8


def use_one_arena() -> None:
    """For all threads that are still to come: Python's allocate one at a time anyway."""
    _call("mallopt", _M_ARENA_MAX, 1)


def give_back() -> None:
    """Free pages go back to the system, wherever they stand. Takes about a millisecond."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)

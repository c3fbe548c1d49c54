"""glibc's allocator returns freed memory; other C libraries are left alone."""

import ctypes
import os

import pytest

from shared import allocator

MIB = 1024 * 1024


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no glibc")
def test_freed_blocks_between_used_ones_are_returned_to_the_system() -> None:
    # Each block is too small for malloc to use mmap, and lies between two that are kept.
    blocks = [os.urandom(100_000) for _ in range(1000)]
    kept = blocks[::2]
    allocator.give_back()
    before = resident_bytes()
    del blocks
    allocator.give_back()
    assert before - resident_bytes() > 30 * MIB
    assert len(kept) == 500


def test_a_c_library_without_these_functions_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    allocator.use_one_arena()
    allocator.give_back()

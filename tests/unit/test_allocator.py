"""The allocator returns memory to the system; C libraries other than glibc are left alone."""

import ctypes
import os

import pytest

from shared import allocator

MIB = 1024 * 1024


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="no glibc")
def test_holes_between_kept_blocks_are_returned_to_the_system() -> None:
    # Each block is too small for an mmap of its own. Every freed block lies between two kept ones.
    blocks = [os.urandom(100_000) for _ in range(1000)]
    kept = blocks[::2]
    allocator.return_free_pages()
    before = resident_bytes()
    del blocks
    allocator.return_free_pages()
    assert before - resident_bytes() > 30 * MIB
    assert len(kept) == 500


def test_a_c_library_without_these_functions_is_not_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    allocator.use_one_arena()
    allocator.return_free_pages()

"""The checksum of a journal's records: the same whoever computes it."""

import subprocess
import sys
import zlib

from hypothesis import given
from hypothesis import strategies as st

from shared.volume.checksum import crc32

_WITHOUT_ISAL = """
import sys, zlib
sys.modules["isal"] = None
from shared.volume import checksum, journal
assert checksum.crc32 is zlib.crc32
assert journal.unpack_records(journal.Record(7, 8, 9).pack()) == [journal.Record(7, 8, 9)]
"""


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_it_is_that_of_zlib_whatever_came_before(one: bytes, other: bytes, before: int) -> None:
    assert crc32(one) == zlib.crc32(one)
    assert crc32(memoryview(one), before) == zlib.crc32(one, before)
    # A journal that another worker wrote, on another machine, holds.
    assert crc32(other, crc32(one)) == zlib.crc32(one + other)


def test_where_there_is_no_wheel_of_isal_it_is_zlibs() -> None:
    subprocess.run([sys.executable, "-c", _WITHOUT_ISAL], check=True)

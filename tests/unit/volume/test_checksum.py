"""The checksum of a journal's records: isal and zlib compute the same."""

import subprocess
import sys
import zlib

from hypothesis import given
from hypothesis import strategies as st

from shared.volume.ingest.checksum import crc32

_WITHOUT_ISAL = """
import sys, zlib
sys.modules["isal"] = None
from shared.volume.ingest import checksum, journal
assert checksum.crc32 is zlib.crc32
assert journal.unpack_records(journal.Record(7, 8, 9).pack()) == [journal.Record(7, 8, 9)]
"""


@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(0, 2**32 - 1))
def test_crc32_equals_that_of_zlib_for_any_initial_value(
    first: bytes, second: bytes, initial: int
) -> None:
    assert crc32(first) == zlib.crc32(first)
    assert crc32(memoryview(first), initial) == zlib.crc32(first, initial)
    # So a journal stays valid on a machine with the other library.
    assert crc32(second, crc32(first)) == zlib.crc32(first + second)


def test_zlib_is_used_where_isal_is_not_installed() -> None:
    subprocess.run([sys.executable, "-c", _WITHOUT_ISAL], check=True)

"""CRC-32, which a journal vouches with: zlib's, by isal where there is a wheel of it. The same
numbers in a tenth of the time, which a connection's thread else takes from its reading.
"""

try:
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

__all__ = ["crc32"]

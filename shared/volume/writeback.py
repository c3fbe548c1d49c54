"""Starting the disk's work early, so that the fsync at the end is short.

`sync_file_range` with WRITE alone promises nothing and reports nothing; the fsync still does both.
Its WAIT flags would eat the error that the fsync is to report. It blocks where the disk is slow, so
it has a thread of its own. Source: sync_file_range(2).
"""

import ctypes

from shared.volume.behind import Behind

_SYNC_FILE_RANGE_WRITE = 2
_STEP_BYTES = 16 * 1024 * 1024

_sync_file_range = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class Writeback:
    """Of one open file. Does nothing where the system has no such call."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._dirty_bytes = 0
        self._behind = Behind("writeback")
        if _sync_file_range is not None:
            self._behind.start(self._run)

    def wrote(self, count: int) -> None:
        """So many bytes were written, anywhere in the file."""
        with self._behind.moved:
            self._dirty_bytes += count
            if self._dirty_bytes >= _STEP_BYTES:
                self._behind.moved.notify()

    def stop(self) -> None:
        """The descriptor may be closed now."""
        self._behind.stop()

    def _run(self) -> None:
        while True:
            with self._behind.moved:
                while self._dirty_bytes < _STEP_BYTES and not self._behind.is_stopped:
                    self._behind.moved.wait()
                if self._behind.is_stopped:
                    return
                self._dirty_bytes = 0
            # From 0 to the end of the file: what is clean, or on its way, costs nothing.
            assert _sync_file_range is not None  # noqa: S101 - else there is no thread
            _sync_file_range(self._descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)

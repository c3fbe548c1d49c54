"""Starts disk writes early, so that the final fsync is short.

`sync_file_range` with WRITE alone guarantees nothing and reports no errors; the fsync does both.
The WAIT flags are not used: they would consume an error that the fsync must report. The call blocks
on a slow disk, so it runs in a background thread. Source: sync_file_range(2).
"""

import ctypes

from shared.volume.ingest.background import BackgroundThread

_SYNC_FILE_RANGE_WRITE = 2
_STEP_BYTES = 16 * 1024 * 1024

_sync_file_range = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class Writeback:
    """Early writeback of one open file. Does nothing if the system lacks `sync_file_range`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._dirty_bytes = 0
        self._thread = BackgroundThread("writeback")
        if _sync_file_range is not None:
            self._thread.start(self._run)

    def wrote(self, count: int) -> None:
        """`count` more bytes were written, anywhere in the file."""
        with self._thread.changed:
            self._dirty_bytes += count
            if self._dirty_bytes >= _STEP_BYTES:
                self._thread.changed.notify()

    def stop(self) -> None:
        """End the thread. After that the descriptor may be closed."""
        self._thread.stop()

    def _run(self) -> None:
        while True:
            with self._thread.changed:
                while self._dirty_bytes < _STEP_BYTES and not self._thread.is_stopped:
                    self._thread.changed.wait()
                if self._thread.is_stopped:
                    return
                self._dirty_bytes = 0
            # The whole file: pages that are clean or already queued are skipped.
            assert _sync_file_range is not None  # noqa: S101 - else there is no thread
            _sync_file_range(self._descriptor, 0, 0, _SYNC_FILE_RANGE_WRITE)

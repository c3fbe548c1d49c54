"""What a new owner of an ingest takes over from earlier owners. `ingest.py` has the rules."""

import errno
import os
import stat
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from shared.volume.directory import Directory

JOURNAL = ".journal"
RELEASED = ".released"

# At most this much is copied between two calls of `beat()`.
_COPY_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Previous:
    """The ingest of an earlier owner."""

    name: str
    # The file's own size says little, because the file may have holes.
    journal_bytes: int

    @property
    def released(self) -> bool:
        return self.name.endswith(RELEASED)

    @property
    def owner(self) -> str:
        return self.name.removesuffix(RELEASED)

    @property
    def journal(self) -> str:
        return self.owner + JOURNAL


def take_over(
    directory: Directory, owner: str, alive: Collection[str], beat: Callable[[], None]
) -> bool:
    """Take over the earlier ingest with the longest journal, under the name `owner`.

    Returns whether there was one. Ingests of owners in `alive` are not touched. All others are
    removed, except the one that was copied: its owner may be a zombie that still writes. `beat()`
    is called for every copied piece. If it raises, the copy ends and the original is still there.
    Raises OSError.
    """
    candidates = [found for found in _previous(directory, owner) if found.owner not in alive]
    for taken in candidates:
        if _take_over(directory, taken, owner, beat):
            break
    else:
        return False
    for other in candidates:
        if other is not taken:
            directory.unlink(other.name)
            directory.unlink(other.journal)
    return True


def _previous(directory: Directory, owner: str) -> list[_Previous]:
    """Earlier ingests, the longest journal first. Only regular files of our own uid count."""
    found = []
    for name in directory.names():
        # Owner names contain the lease's fence, which only grows: a greater name is newer.
        if name.endswith(JOURNAL) or name.removesuffix(RELEASED) >= owner:
            continue
        status = directory.stat(name)
        if status and stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
            journal = directory.stat(name.removesuffix(RELEASED) + JOURNAL)
            found.append(_Previous(name, journal.st_size if journal else 0))
    return sorted(found, key=lambda previous: previous.journal_bytes, reverse=True)


def _take_over(
    directory: Directory, previous: _Previous, owner: str, beat: Callable[[], None]
) -> bool:
    """Rename or copy the bytes and the journal. False if another owner was faster."""
    try:
        if previous.released:
            directory.rename(previous.name, directory, owner)
            with suppress(FileNotFoundError):
                directory.rename(previous.journal, directory, owner + JOURNAL)
        else:
            # The journal first: a record is only written after its bytes, so every record of the
            # copy describes bytes that the copy of the file will contain.
            _copy(directory, previous.journal, owner + JOURNAL, beat)
            _copy(directory, previous.name, owner, beat)
    except FileNotFoundError:
        directory.unlink(owner + JOURNAL)
        return False
    return True


def _copy(directory: Directory, name: str, copy: str, beat: Callable[[], None]) -> None:
    source = directory.open(name, os.O_RDONLY)
    try:
        target = directory.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            _copy_bytes(source, target, beat)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy_bytes(source: int, target: int, beat: Callable[[], None]) -> None:
    offset = 0
    while True:
        beat()
        try:
            # Shares extents on filesystems with reflinks; elsewhere the copy stays in the kernel.
            copied = os.copy_file_range(source, target, _COPY_BYTES, offset, offset)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise
            copied = os.pwrite(target, os.pread(source, _COPY_BYTES, offset), offset)
        if copied == 0:
            return
        offset += copied

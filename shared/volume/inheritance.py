"""What a new owner of an ingest takes from earlier ones (the rules stand in ingest.py)."""

import errno
import os
import stat
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from shared.volume.directory import Directory

JOURNAL = ".journal"
RELEASED = ".released"

# At most this much between two signs of life.
_COPY_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Ancestor:
    name: str
    # Of its journal, in bytes: the file itself may have holes.
    vouched: int

    @property
    def released(self) -> bool:
        return self.name.endswith(RELEASED)

    @property
    def owner(self) -> str:
        return self.name.removesuffix(RELEASED)

    @property
    def journal(self) -> str:
        return self.owner + JOURNAL


def inherit(
    directory: Directory, owner: str, alive: Collection[str], beat: Callable[[], None]
) -> bool:
    """Leave the best earlier ingest's bytes and journal under `owner`, if any. Raises OSError.

    The ingests of owners in `alive` are not touched. Others are removed, but for the one that was
    copied from: its owner may be a zombie that still writes. `beat()` is called for every copied
    piece; what it raises ends the copy, with the original still there.
    """
    ancestors = [one for one in _ancestors(directory, owner) if one.owner not in alive]
    for ancestor in ancestors:
        if _take(directory, ancestor, owner, beat):
            break
    else:
        return False
    for other in ancestors:
        if other is not ancestor:
            directory.unlink(other.name)
            directory.unlink(other.journal)
    return True


def _ancestors(directory: Directory, owner: str) -> list[_Ancestor]:
    """Earlier ingests, those with the longest journals first; only regular files of our own uid
    count.
    """
    found = []
    for name in directory.names():
        # Owners are named by fences, which only grow: one above ours has begun since.
        if name.endswith(JOURNAL) or name.removesuffix(RELEASED) >= owner:
            continue
        status = directory.stat(name)
        if status and stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
            journal = directory.stat(name.removesuffix(RELEASED) + JOURNAL)
            found.append(_Ancestor(name, journal.st_size if journal else 0))
    return sorted(found, key=lambda ancestor: ancestor.vouched, reverse=True)


def _take(directory: Directory, ancestor: _Ancestor, owner: str, beat: Callable[[], None]) -> bool:
    """Whether the ancestor's bytes are ours now; False when another owner was quicker."""
    try:
        if ancestor.released:
            directory.rename(ancestor.name, directory, owner)
            with suppress(FileNotFoundError):
                directory.rename(ancestor.journal, directory, owner + JOURNAL)
        else:
            # The journal first: every record in it speaks of bytes that are written already.
            _copy(directory, ancestor.journal, owner + JOURNAL, beat)
            _copy(directory, ancestor.name, owner, beat)
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
            # Shares the extents where the filesystem can (reflink), stays in the kernel elsewhere.
            copied = os.copy_file_range(source, target, _COPY_BYTES, offset, offset)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise
            copied = os.pwrite(target, os.pread(source, _COPY_BYTES, offset), offset)
        if copied == 0:
            return
        offset += copied

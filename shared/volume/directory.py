"""Open directories: names are resolved below a descriptor and never through a symlink.

A volume may be a network filesystem that other hosts can write to. So no path is built from text:
a `Directory` opens its children one name at a time, with O_NOFOLLOW.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from shared.errors import VolumeFull, VolumeUnavailable

# What link() fails with if the filesystem has no hard links, or the file has too many.
LINKS_REFUSED = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}

_FULL = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def volume_errors(action: str) -> Iterator[None]:
    """Turn OSError into VolumeFull or VolumeUnavailable.

    `action` completes two sentences: "The volume cannot …" and "… no space left to …".
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if error.errno == errno.EXDEV:
            raise VolumeUnavailable(
                f"The volume cannot {action} ({reason}): it was mounted again during that, or a "
                "part of it is another filesystem. It must be one filesystem."
            ) from error
        if error.errno in _FULL:
            raise VolumeFull(
                f"The volume has no space left to {action} ({reason}): free space or inodes, or "
                "raise the quota."
            ) from error
        raise VolumeUnavailable(
            f"The volume cannot {action} ({reason}): check its mount and permissions."
        ) from error


class Directory:
    """One open directory. Every method raises OSError; callers translate it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def root(cls, path: Path) -> "Directory":
        """The volume's top directory. The operator's path to it may contain symlinks."""
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def __del__(self) -> None:
        # `Volume.check()` may replace a root that other threads still use: the last one closes it.
        self.close()

    def __enter__(self) -> "Directory":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._descriptor < 0

    def close(self) -> None:
        """Close the descriptor. May be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def is_same(self, other: "Directory") -> bool:
        """Whether both are one directory of one filesystem, through whichever mounts."""
        return os.path.samestat(os.fstat(self._descriptor), os.fstat(other._descriptor))

    def descend(self, *names: str, create: bool = False, durable: bool = True) -> "Directory":
        """Open a directory below this one.

        `create`: make missing directories on the way. `durable`: fsync the parent of each new one.
        """
        current = Directory(os.dup(self._descriptor))
        for name in names:
            try:
                child = current._child(name, create=create, durable=durable)
            finally:
                current.close()
            current = child
        return current

    def _child(self, name: str, *, create: bool, durable: bool) -> "Directory":
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return Directory(os.open(name, flags, dir_fd=self._descriptor))
        except FileNotFoundError:
            if not create:
                raise
        with suppress(FileExistsError):
            os.mkdir(name, 0o755, dir_fd=self._descriptor)
        if durable:
            # The new name must survive a power cut before anything below it counts as stored.
            self.fsync()
        return Directory(os.open(name, flags, dir_fd=self._descriptor))

    def open(self, name: str, flags: int, mode: int = 0o600) -> int:
        """A descriptor of the file `name`, which the caller closes. Symlinks are refused."""
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(name, flags, mode, dir_fd=self._descriptor)

    def names(self) -> list[str]:
        """All names in this directory, sorted."""
        return sorted(os.listdir(self._descriptor))

    def walk(self) -> Iterator[str]:
        """All names in this directory, unsorted, read as needed: there may be millions."""
        with os.scandir(self._descriptor) as entries:
            for entry in entries:
                yield entry.name

    def stat(self, name: str) -> os.stat_result | None:
        """The status of `name`, symlinks not followed; None if there is no such name."""
        try:
            return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def read(self, name: str, limit_bytes: int) -> bytes:
        """At most the first `limit_bytes` of a file."""
        with os.fdopen(self.open(name, os.O_RDONLY), "rb") as file:
            return file.read(limit_bytes)

    def replace(self, name: str, content: bytes) -> None:
        """Replace a small file atomically and durably: temporary name, fsync, rename, fsync."""
        with self._written(name, content) as temporary:
            self.rename(temporary, self, name)
        self.fsync()

    def create(self, name: str, content: bytes) -> bool:
        """Write a small file durably unless `name` exists; returns False if it does."""
        try:
            with self._written(name, content) as temporary:
                try:
                    self.link(temporary, self, name)
                except OSError as error:
                    if error.errno not in LINKS_REFUSED:
                        raise
                    if self.stat(name) is not None:
                        return False
                    # Not atomic, but as close to it as a filesystem without hard links allows.
                    self.rename(temporary, self, name)
        except FileExistsError:
            return False
        self.fsync()
        return True

    @contextmanager
    def _written(self, name: str, content: bytes) -> Iterator[str]:
        """Write a durable file under a temporary name, and unlink that name at the end."""
        temporary = f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
        descriptor = self.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            self.unlink(temporary)

    def link(self, name: str, target: "Directory", target_name: str) -> None:
        """Hard-link the file `name` as `target_name`. Raises FileExistsError if that exists."""
        os.link(
            name,
            target_name,
            src_dir_fd=self._descriptor,
            dst_dir_fd=target._descriptor,
            follow_symlinks=False,
        )

    def symlink(self, name: str, destination: str) -> None:
        """Make `name` a symbolic link to `destination`."""
        os.symlink(destination, name, dir_fd=self._descriptor)

    def rename(self, name: str, target: "Directory", target_name: str) -> None:
        """Rename, replacing an existing file."""
        os.rename(name, target_name, src_dir_fd=self._descriptor, dst_dir_fd=target._descriptor)

    def unlink(self, name: str) -> None:
        """Remove a file if it exists."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._descriptor)

    def rmdir(self, name: str) -> None:
        """Remove a directory if it exists and is empty; every error is ignored."""
        with suppress(OSError):
            os.rmdir(name, dir_fd=self._descriptor)

    def space(self) -> tuple[int, int, int | None]:
        """Free bytes (for unprivileged users), total bytes and free inodes of the filesystem.

        Free inodes are None if the filesystem does not count them.
        """
        status = os.fstatvfs(self._descriptor)
        free_inodes = status.f_favail if status.f_files else None
        return status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize, free_inodes

    def fsync(self) -> None:
        """Make the names in this directory durable."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            # Some network filesystems refuse fsync on directories; their renames are synchronous.
            if error.errno != errno.EINVAL:
                raise

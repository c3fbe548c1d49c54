"""Small files of the stack, for its owner alone: each is there as a whole or not at all.

What is written at the first start is believed at every later one, so a disk that was full then, or
a kill, must leave nothing behind that looks like a file.
"""

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.errors import CatalogUnavailable, InvalidArgument

_FULL = (errno.ENOSPC, errno.EDQUOT)

_SECRET_BYTES = 24
# Base64 makes four characters of three bytes.
_SECRET_CHARACTERS = _SECRET_BYTES * 4 // 3


@contextmanager
def home_errors(path: Path) -> Iterator[None]:
    """Turn an OSError at `path`, below TOWLINE_HOME, into one sentence.

    Raises CatalogUnavailable for a full disk, InvalidArgument for all else.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if error.errno in _FULL:
            raise CatalogUnavailable(f"{path} cannot be written ({reason}): free space.") from error
        raise InvalidArgument(
            f"TOWLINE_HOME cannot be used: {path}: {reason}. Name a directory of your own."
        ) from error


def write_private(file: Path, text: str) -> None:
    """Replace a file durably, mode 0600; the old one stays when that fails. See `home_errors`."""
    temporary = file.with_name(f"{file.name}.new")
    with home_errors(file):
        temporary.unlink(missing_ok=True)
        try:
            temporary.touch(mode=0o600)
            with temporary.open("w", encoding="utf-8") as opened:
                opened.write(text)
                opened.flush()
                os.fsync(opened.fileno())
            temporary.replace(file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def secret(file: Path) -> Path:
    """A file with a random password, made at first use. See `home_errors`."""
    with home_errors(file):
        password = file.read_text() if file.exists() else ""
    if len(password) < _SECRET_CHARACTERS:
        # None yet, or what an earlier version left behind on a full disk.
        write_private(file, secrets.token_urlsafe(_SECRET_BYTES))
    return file

"""Small private files of the stack, written atomically.

A password that is made at the first start is used at every later start. So a full disk or a kill
must not leave an empty or truncated file behind.
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
# Base64 encodes three bytes as four characters.
_SECRET_CHARACTERS = _SECRET_BYTES * 4 // 3


@contextmanager
def home_errors(path: Path) -> Iterator[None]:
    """Turn an OSError at `path`, below TOWLINE_HOME, into an error with a sentence.

    Raises CatalogUnavailable for a full disk, and InvalidArgument for any other error.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if error.errno in _FULL:
            raise CatalogUnavailable(
                f"{path} cannot be written ({reason}): free space on its disk."
            ) from error
        raise InvalidArgument(
            f"TOWLINE_HOME cannot be used: {path}: {reason}. Set it to a directory that you own."
        ) from error


def write_private(file: Path, text: str) -> None:
    """Replace a file durably, with mode 0600. The old file stays if that fails.

    Raises what `home_errors` raises.
    """
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


def password_file(file: Path) -> Path:
    """A file with a random password, made at first use. Raises what `home_errors` raises."""
    with home_errors(file):
        password = file.read_text() if file.exists() else ""
    if len(password) < _SECRET_CHARACTERS:
        # There is none yet, or an earlier version left a truncated one on a full disk.
        write_private(file, secrets.token_urlsafe(_SECRET_BYTES))
    return file

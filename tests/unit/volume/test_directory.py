"""Errors of the filesystem, and directories as the filesystem knows them."""

import errno
import os
from pathlib import Path

import pytest

from shared.errors import VolumeFull, VolumeUnavailable
from shared.volume.directory import Directory, volume_errors


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [
        (errno.ENOSPC, VolumeFull, "no space left to commit it"),
        (errno.EROFS, VolumeUnavailable, "check its mount and permissions"),
        (errno.EXDEV, VolumeUnavailable, "it was mounted again during that"),
    ],
)
def test_an_error_of_the_filesystem_says_what_to_look_at(
    code: int, kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence), volume_errors("commit it"):
        raise OSError(code, os.strerror(code))


def test_a_directory_is_the_same_whichever_way_leads_to_it(tmp_path: Path) -> None:
    with Directory.root(tmp_path) as root, root.descend("a", create=True) as below:
        with Directory.root(tmp_path / "a") as again:
            assert below.is_same(again)
        assert not below.is_same(root)

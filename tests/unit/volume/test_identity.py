"""The identity of a volume."""

import errno
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from shared.errors import VolumeUnavailable
from shared.volume import identity
from shared.volume.directory import Directory
from shared.volume.identity import FILE_NAME, prepare
from shared.volume.store import Volume


def test_prepare_gives_a_new_volume_an_identity_and_keeps_it(tmp_path: Path) -> None:
    first = prepare(tmp_path / "volume", None)
    assert prepare(tmp_path / "volume", first) == first
    assert prepare(tmp_path / "volume", None) == first


def test_prepare_refuses_an_empty_directory_when_the_catalog_knows_a_volume(tmp_path: Path) -> None:
    with pytest.raises(VolumeUnavailable, match="mount that volume"):
        prepare(tmp_path, uuid4())


def test_prepare_refuses_another_volume(tmp_path: Path) -> None:
    prepare(tmp_path, None)
    with pytest.raises(VolumeUnavailable, match="Another volume"):
        prepare(tmp_path, uuid4())


def test_a_worker_never_creates_a_volume(tmp_path: Path) -> None:
    with pytest.raises(VolumeUnavailable, match="towline migrate"):
        Volume(tmp_path, uuid4())
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_identity_is_reported(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("{}")
    with pytest.raises(VolumeUnavailable, match="damaged"):
        prepare(tmp_path, None)


@pytest.mark.parametrize("has_links", [True, False])
def test_when_two_processes_create_a_volume_the_first_identity_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_links: bool
) -> None:
    found = identity.read_identity
    others: list[UUID] = []

    def overtaken(_root: Directory) -> None:
        monkeypatch.setattr(identity, "read_identity", found)
        others.append(prepare(tmp_path, None))

    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    if not has_links:
        monkeypatch.setattr(Directory, "link", refused)
    monkeypatch.setattr(identity, "read_identity", overtaken)
    assert [prepare(tmp_path, None)] == others
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]

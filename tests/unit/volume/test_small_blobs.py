"""The shelf: small blobs become durable together, and failures leave no files behind."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.errors import DigestMismatch, VolumeFull, VolumeUnavailable
from shared.oci.digest import Digest
from shared.volume.identity import FILE_NAME
from shared.volume.ingest.ingest import Ingest
from shared.volume.small_blobs import SmallBlobWriter
from shared.volume.store import Volume
from tests.builders.blobs import blob, store

BODIES = [b"one", b"two" * 1000, b""]
BODY = b"the blob that is stored in most of these tests"
DIGEST = Digest.of(BODY)


def ingest_names(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "ingest").rglob("*") if path.is_file()}


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def put(volume: Volume, body: bytes = BODY) -> None:
    with SmallBlobWriter(volume, "1") as shelf:
        shelf.put(Digest.of(body), body)
        shelf.fsync()


def given_ingest(volume: Volume) -> Ingest:
    """An ingest of another owner, with half of the bytes."""
    ingest = Ingest.begin(volume, DIGEST, len(BODY), "2", alive={"1"})
    ingest.write(BODY[:20])
    return ingest


def before_each_link(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> list[str]:
    """Call `act` after a file is written and before it is published. Returns the linked names."""
    links: list[str] = []
    link = os.link

    def acting_first(name: str, target: str, **directories: int) -> None:
        links.append(target)
        act()
        link(name, target, **directories)

    monkeypatch.setattr(os, "link", acting_first)
    return links


@pytest.fixture
def lasting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The fsyncs and links, in order."""
    lasting: list[str] = []
    fsync, link = os.fsync, os.link

    def noting_fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        lasting.append(f"fsync {path.relative_to(tmp_path)}")
        fsync(descriptor)

    def noting_link(name: str, target: str, **directories: int) -> None:
        lasting.append(f"link {target}")
        link(name, target, **directories)

    monkeypatch.setattr(os, "fsync", noting_fsync)
    monkeypatch.setattr(os, "link", noting_link)
    return lasting


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_a_stored_blob_is_read_only_under_its_digest(
    volume: Volume, tmp_path: Path, algorithm: str
) -> None:
    digests = [Digest.of(body, algorithm) for body in BODIES]
    with SmallBlobWriter(volume, "1") as shelf:
        for digest, body in zip(digests, BODIES, strict=True):
            shelf.put(digest, body)
        shelf.fsync()
    assert [volume.read(digest, 3000) for digest in digests] == BODIES
    for digest in digests:
        assert blob(tmp_path, digest).stat().st_mode & 0o777 == 0o444
        assert blob(tmp_path, digest).stat().st_nlink == 1
    assert list((tmp_path / "ingest" / algorithm).iterdir()) == []


def test_each_file_is_durable_before_its_name_and_one_fsync_covers_all_names(
    volume: Volume, lasting: list[str]
) -> None:
    store(volume, b"an earlier blob makes the directories")
    lasting.clear()
    one, two, three = store(volume, *BODIES)
    assert lasting == [
        f"fsync ingest/sha256/{one.encoded}/document",
        f"link {one.encoded}",
        f"fsync ingest/sha256/{two.encoded}/document",
        f"link {two.encoded}",
        f"fsync ingest/sha256/{three.encoded}/document",
        f"link {three.encoded}",
        "fsync blobs/sha256",
    ]


def test_settle_makes_the_names_of_every_algorithm_durable(
    volume: Volume, lasting: list[str]
) -> None:
    with SmallBlobWriter(volume, "1") as shelf:
        shelf.put(Digest.of(BODY, "sha256"), BODY)
        shelf.put(Digest.of(BODY, "sha512"), BODY)
        lasting.clear()
        shelf.fsync()
    assert lasting == ["fsync blobs/sha256", "fsync blobs/sha512"]


def test_put_refuses_wrong_bytes_and_accepts_the_next_blob(volume: Volume, tmp_path: Path) -> None:
    with SmallBlobWriter(volume, "1") as shelf:
        with pytest.raises(DigestMismatch, match="hash to sha256:"):
            shelf.put(DIGEST, b"not these bytes")
        assert not (tmp_path / "blobs").exists()
        shelf.put(DIGEST, BODY)
        shelf.fsync()
    assert volume.read(DIGEST, len(BODY)) == BODY


def test_a_short_write_is_continued(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, view: write(descriptor, view[:7]))
    put(volume)
    assert volume.read(DIGEST, len(BODY)) == BODY


def test_an_existing_blob_is_kept(volume: Volume, tmp_path: Path) -> None:
    put(volume)
    inode = blob(tmp_path, DIGEST).stat().st_ino
    put(volume)
    assert blob(tmp_path, DIGEST).stat().st_ino == inode
    assert not (tmp_path / "quarantine").exists()
    assert ingest_names(tmp_path) == set()


@pytest.mark.parametrize("body", [BODY, b""])
def test_an_existing_blob_is_kept_on_a_filesystem_without_hard_links(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    put(volume, body)
    inode = blob(tmp_path, Digest.of(body)).stat().st_ino
    put(volume, body)
    assert blob(tmp_path, Digest.of(body)).stat().st_ino == inode
    assert ingest_names(tmp_path) == set()


def test_wrong_bytes_under_the_name_are_quarantined(volume: Volume, tmp_path: Path) -> None:
    blob(tmp_path, DIGEST).parent.mkdir(parents=True)
    blob(tmp_path, DIGEST).write_bytes(b"not these bytes")
    put(volume)
    assert volume.read(DIGEST, len(BODY)) == BODY
    (wrong,) = (tmp_path / "quarantine").iterdir()
    assert wrong.read_bytes() == b"not these bytes"


def test_put_stops_when_another_volume_is_mounted(volume: Volume, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).unlink()
    with SmallBlobWriter(volume, "1") as shelf, pytest.raises(VolumeUnavailable, match="mount it"):
        shelf.put(DIGEST, BODY)
    assert list(tmp_path.iterdir()) == []


def test_settle_stops_when_another_volume_is_mounted(
    volume: Volume, tmp_path: Path, lasting: list[str]
) -> None:
    with SmallBlobWriter(volume, "1") as shelf:
        shelf.put(DIGEST, BODY)
        (tmp_path / FILE_NAME).unlink()
        lasting.clear()
        with pytest.raises(VolumeUnavailable, match="mount it"):
            shelf.fsync()
    assert lasting == []


@pytest.mark.parametrize("call", ["write", "fchmod", "fsync", "link"])
def test_a_full_volume_leaves_no_partial_blob(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    store(volume, b"an earlier blob makes the directories")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with SmallBlobWriter(volume, "1") as shelf, monkeypatch.context() as full:
        full.setattr(os, call, refuse)
        with pytest.raises(VolumeFull):
            shelf.put(DIGEST, BODY)
    assert ingest_names(tmp_path) == set()
    assert not blob(tmp_path, DIGEST).exists()
    put(volume)
    assert volume.read(DIGEST, len(BODY)) == BODY


def test_a_failed_fsync_of_the_names_is_raised(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with SmallBlobWriter(volume, "1") as shelf:
        shelf.put(DIGEST, BODY)
        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(VolumeUnavailable, match="make new blobs durable"):
            shelf.fsync()


def test_put_succeeds_when_another_owner_commits_before_the_link(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = given_ingest(volume)

    def commit() -> None:
        if other.offset < len(BODY):
            other.write(BODY[20:])
            other.commit()

    links = before_each_link(monkeypatch, commit)
    put(volume)
    # The shelf's link and, nested in it, the link of the other owner, whose blob is kept.
    assert links == [DIGEST.encoded] * 2
    assert volume.read(DIGEST, len(BODY)) == BODY
    assert ingest_names(tmp_path) == set()


def test_put_retries_when_its_directory_is_removed_once(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sweep_once() -> None:
        if len(links) == 1:
            shutil.rmtree(tmp_path / "ingest" / "sha256" / DIGEST.encoded)

    links = before_each_link(monkeypatch, sweep_once)
    put(volume)
    assert links == [DIGEST.encoded] * 2
    assert volume.read(DIGEST, len(BODY)) == BODY
    assert ingest_names(tmp_path) == set()


def test_put_gives_up_when_its_directory_is_removed_every_time(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "ingest" / "sha256" / DIGEST.encoded
    before_each_link(monkeypatch, lambda: shutil.rmtree(directory))
    with pytest.raises(VolumeUnavailable, match="vanished"):
        put(volume)
    assert not blob(tmp_path, DIGEST).exists()


def test_an_ingest_of_another_owner_is_not_touched(volume: Volume, tmp_path: Path) -> None:
    other = given_ingest(volume)
    put(volume)
    assert volume.read(DIGEST, len(BODY)) == BODY
    assert ingest_names(tmp_path) == {"2", "2.journal"}
    inode = blob(tmp_path, DIGEST).stat().st_ino
    other.write(BODY[20:])
    other.commit()
    assert blob(tmp_path, DIGEST).stat().st_ino == inode
    assert ingest_names(tmp_path) == set()


def test_no_descriptor_stays_open(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_descriptors()
    store(volume, *BODIES)
    store(volume, *BODIES)
    with SmallBlobWriter(volume, "1") as shelf:
        with pytest.raises(DigestMismatch):
            shelf.put(DIGEST, b"not these bytes")
        directory = tmp_path / "ingest" / "sha256" / DIGEST.encoded
        before_each_link(monkeypatch, lambda: shutil.rmtree(directory))
        with pytest.raises(VolumeUnavailable):
            shelf.put(DIGEST, BODY)
    assert open_descriptors() == before

"""Ingests: bytes become a blob, or are resumed, or are removed."""

import hashlib
import random
import threading
from pathlib import Path

import pytest

from shared.errors import DigestMismatch, SizeMismatch, VolumeUnavailable
from shared.oci.digest import Digest
from shared.volume.identity import FILE_NAME
from shared.volume.ingest.ingest import Ingest
from shared.volume.store import Volume
from tests.builders.blobs import BODY, DIGEST, MIB, blob, store


def begin(
    volume: Volume, owner: str = "1", digest: Digest = DIGEST, size: int = len(BODY)
) -> Ingest:
    return Ingest.begin(volume, digest, size, owner)


def write(ingest: Ingest, body: bytes, block: int = 100_000) -> None:
    for start in range(0, len(body), block):
        ingest.write(body[start : start + block])


def ingest_files(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "ingest").rglob("*") if path.is_file()]


def test_commit_publishes_the_bytes_read_only_under_their_digest(
    volume: Volume, tmp_path: Path
) -> None:
    ingest = begin(volume)
    write(ingest, BODY)
    ingest.commit()
    assert blob(tmp_path).read_bytes() == BODY
    assert blob(tmp_path).stat().st_mode & 0o777 == 0o444
    assert blob(tmp_path).stat().st_nlink == 1
    assert ingest_files(tmp_path) == []


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_commit_verifies_every_algorithm(volume: Volume, tmp_path: Path, algorithm: str) -> None:
    digest = Digest.of(BODY, algorithm)
    ingest = begin(volume, digest=digest)
    write(ingest, BODY)
    ingest.commit()
    assert hashlib.new(algorithm, blob(tmp_path, digest).read_bytes()).hexdigest() == digest.encoded


def test_nothing_is_published_before_commit(volume: Volume, tmp_path: Path) -> None:
    ingest = begin(volume)
    write(ingest, BODY)
    assert not blob(tmp_path).exists()
    ingest.discard()
    assert ingest_files(tmp_path) == []


def test_a_zero_length_blob_needs_no_write(volume: Volume, tmp_path: Path) -> None:
    digest = Digest.of(b"")
    begin(volume, digest=digest, size=0).commit()
    assert blob(tmp_path, digest).read_bytes() == b""


def test_commit_refuses_wrong_bytes_and_keeps_the_ingest_open(
    volume: Volume, tmp_path: Path
) -> None:
    ingest = begin(volume)
    write(ingest, bytes(len(BODY)))
    with pytest.raises(DigestMismatch, match="hash to sha256:"):
        ingest.commit()
    ingest.restart()
    write(ingest, BODY)
    ingest.commit()
    assert blob(tmp_path).read_bytes() == BODY


def test_commit_refuses_missing_bytes(volume: Volume, tmp_path: Path) -> None:
    ingest = begin(volume)
    write(ingest, BODY[:-1])
    with pytest.raises(SizeMismatch):
        ingest.commit()
    ingest.discard()
    assert not blob(tmp_path).exists()


def test_write_refuses_bytes_beyond_the_size(volume: Volume) -> None:
    ingest = begin(volume)
    write(ingest, BODY)
    with pytest.raises(SizeMismatch, match="sends more"):
        ingest.write(b"x")
    ingest.discard()


def test_a_released_ingest_is_continued_in_place(volume: Volume, tmp_path: Path) -> None:
    first = begin(volume, "1")
    write(first, BODY[: 2 * MIB + 5])
    first.release()
    inode = (
        next(path for path in ingest_files(tmp_path) if path.suffix == ".released").stat().st_ino
    )

    second = begin(volume, "2")

    assert second.offset == second.inherited_bytes == 2 * MIB + 5
    assert (tmp_path / "ingest/sha256" / DIGEST.encoded / "2").stat().st_ino == inode
    write(second, BODY[second.offset :])
    second.commit()
    assert blob(tmp_path).read_bytes() == BODY


def test_a_killed_owners_bytes_are_copied_as_far_as_the_journal_records_them(
    volume: Volume, tmp_path: Path
) -> None:
    killed = begin(volume, "1")
    write(killed, BODY[: 2 * MIB + 500_000])

    new_owner = begin(volume, "2")

    assert 2 * MIB <= new_owner.offset <= 2 * MIB + 500_000
    write(new_owner, BODY[new_owner.offset :])
    new_owner.commit()
    assert blob(tmp_path).read_bytes() == BODY


def test_a_zombie_that_goes_on_writing_does_no_harm(volume: Volume, tmp_path: Path) -> None:
    zombie = begin(volume, "1")
    write(zombie, BODY[: 2 * MIB])
    new_owner = begin(volume, "2")
    write(zombie, bytes(MIB))
    write(new_owner, BODY[new_owner.offset :])
    new_owner.commit()
    assert blob(tmp_path).read_bytes() == BODY


def test_inherited_bytes_that_changed_are_dropped(volume: Volume, tmp_path: Path) -> None:
    first = begin(volume, "1")
    write(first, BODY[: 3 * MIB], block=MIB)
    first.release()
    released = next(path for path in ingest_files(tmp_path) if path.suffix == ".released")
    with released.open("r+b") as file:
        file.seek(MIB + 10)
        file.write(b"\0\0\0\0\0\0\0\0")

    second = begin(volume, "2")

    assert second.gaps() == [(MIB, 2 * MIB), (3 * MIB, len(BODY))]
    write(second, BODY[MIB:])
    second.commit()
    assert blob(tmp_path).read_bytes() == BODY


def test_a_torn_journal_counts_up_to_its_last_whole_record(volume: Volume, tmp_path: Path) -> None:
    first = begin(volume, "1")
    write(first, BODY[: 3 * MIB], block=MIB)
    first.release()
    journal = next(path for path in ingest_files(tmp_path) if path.suffix == ".journal")
    journal.write_bytes(journal.read_bytes()[:-3])
    second = begin(volume, "2")
    assert second.offset == 2 * MIB
    second.discard()


def test_the_second_of_two_owners_to_commit_keeps_the_first_blob(
    volume: Volume, tmp_path: Path
) -> None:
    first, second = begin(volume, "1"), begin(volume, "2")
    write(first, BODY)
    write(second, BODY)
    first.commit()
    inode = blob(tmp_path).stat().st_ino
    second.commit()
    assert blob(tmp_path).stat().st_ino == inode
    assert ingest_files(tmp_path) == []


def test_commit_quarantines_wrong_bytes_under_the_name(volume: Volume, tmp_path: Path) -> None:
    blob(tmp_path).parent.mkdir(parents=True)
    blob(tmp_path).write_bytes(b"not these bytes")
    ingest = begin(volume)
    write(ingest, BODY)
    ingest.commit()
    assert blob(tmp_path).read_bytes() == BODY
    assert [path.read_bytes() for path in (tmp_path / "quarantine").iterdir()] == [
        b"not these bytes"
    ]


def test_a_symlink_under_the_name_of_an_ingest_is_not_followed(
    volume: Volume, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    directory = tmp_path / "ingest" / "sha256" / DIGEST.encoded
    directory.mkdir(parents=True)
    (directory / "1").symlink_to(secret)
    with pytest.raises(VolumeUnavailable):
        begin(volume, "1")
    assert secret.read_bytes() == b"secret"


def test_commit_stops_when_another_volume_is_mounted(volume: Volume, tmp_path: Path) -> None:
    ingest = begin(volume)
    write(ingest, BODY)
    (tmp_path / FILE_NAME).unlink()
    with pytest.raises(VolumeUnavailable, match="mount it"):
        ingest.commit()
    assert not blob(tmp_path).exists()
    ingest.discard()


def test_adopt_returns_the_size_of_matching_bytes_and_quarantines_others(
    volume: Volume, tmp_path: Path
) -> None:
    assert volume.adopt(DIGEST) is None
    store(volume, BODY)
    assert volume.adopt(DIGEST) == len(BODY)
    blob(tmp_path).chmod(0o644)
    blob(tmp_path).write_bytes(BODY[:-1] + b"?")
    assert volume.adopt(DIGEST) is None
    assert not blob(tmp_path).exists()


def test_read_verifies_the_digest(volume: Volume, tmp_path: Path) -> None:
    store(volume, BODY)
    assert volume.read(DIGEST, len(BODY)) == BODY
    blob(tmp_path).chmod(0o644)
    blob(tmp_path).write_bytes(BODY[:-1] + b"?")
    with pytest.raises(VolumeUnavailable, match="doctor --deep"):
        volume.read(DIGEST, len(BODY))


def test_bytes_may_be_written_in_any_order(volume: Volume, tmp_path: Path) -> None:
    ingest = begin(volume)
    pieces = [(first, BODY[first : first + 300_000]) for first in range(0, len(BODY), 300_000)]
    for first, piece in reversed(pieces):
        writer = ingest.writer(first)
        writer.write(piece)
        writer.close()
    assert ingest.gaps() == []
    ingest.commit()
    assert blob(tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("seed", range(5))
def test_several_threads_write_while_another_hashes(
    volume: Volume, tmp_path: Path, seed: int
) -> None:
    ingest = begin(volume)
    firsts = list(range(0, len(BODY), 70_001))
    random.Random(seed).shuffle(firsts)

    def write_some(mine: list[int]) -> None:
        for first in mine:
            writer = ingest.writer(first)
            for at in range(first, min(first + 70_001, len(BODY)), 9_999):
                writer.write(BODY[at : min(at + 9_999, first + 70_001)])
            writer.close()

    with ingest.in_background():
        threads = [threading.Thread(target=write_some, args=(firsts[n::4],)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ingest.commit()
    assert blob(tmp_path).read_bytes() == BODY


def test_commit_hashes_what_was_not_hashed_in_the_background(
    volume: Volume, tmp_path: Path
) -> None:
    ingest = begin(volume)
    with ingest.in_background():
        ingest.write(BODY[:MIB])
    write(ingest, BODY[MIB:])
    ingest.commit()
    assert blob(tmp_path).read_bytes() == BODY


def test_a_new_owner_inherits_all_runs_in_the_journal(volume: Volume, tmp_path: Path) -> None:
    killed = begin(volume, "1")
    for first in (MIB, 2 * MIB + 500_000):
        writer = killed.writer(first)
        writer.write(BODY[first : first + 400_000])
        writer.close()
    new_owner = begin(volume, "2")
    assert new_owner.inherited_bytes == 800_000
    assert new_owner.gaps() == [
        (0, MIB),
        (MIB + 400_000, 2 * MIB + 500_000),
        (2 * MIB + 900_000, len(BODY)),
    ]
    for first, end in new_owner.gaps():
        new_owner.writer(first).write(BODY[first:end])
    new_owner.commit()
    assert blob(tmp_path).read_bytes() == BODY


def test_after_a_restart_everything_is_missing(volume: Volume, tmp_path: Path) -> None:
    ingest = begin(volume)
    with ingest.in_background():
        ingest.writer(MIB).write(bytes(MIB))
        ingest.restart()
        assert ingest.gaps() == [(0, len(BODY))]
        write(ingest, BODY)
        ingest.commit()
    assert blob(tmp_path).read_bytes() == BODY

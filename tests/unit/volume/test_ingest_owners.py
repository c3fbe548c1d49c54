"""Ingests of several owners: the living leave each other alone, the dead are inherited."""

import os
from pathlib import Path

import pytest

from shared.errors import VolumeUnavailable
from shared.volume import inheritance
from shared.volume.ingest import Ingest
from shared.volume.store import Volume
from tests.unit.volume.given_blobs import BODY, DIGEST, MIB, blob, store


def begin(volume: Volume, owner: str) -> Ingest:
    return Ingest.begin(volume, DIGEST, len(BODY), owner)


def write(ingest: Ingest, body: bytes, block: int = MIB) -> None:
    for start in range(0, len(body), block):
        ingest.write(body[start : start + block])


def ingest_names(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "ingest").rglob("*") if path.is_file()}


class Stopped(Exception):
    """What a beat raises."""


class Beats:
    """Counts the beats, and raises at the one that is told to be the last."""

    def __init__(self, last: int | None = None) -> None:
        self.count = 0
        self.last = last

    def __call__(self) -> None:
        self.count += 1
        if self.count == self.last:
            raise Stopped


class Everybody(set[str]):
    """Whoever there is, lives."""

    def __contains__(self, _: object) -> bool:
        return True


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def given_ingest(volume: Volume, owner: str, count: int) -> Ingest:
    """An ingest that holds the first `count` bytes, beside whatever there is."""
    ingest = Ingest.begin(volume, DIGEST, len(BODY), owner, alive=Everybody())
    write(ingest, BODY[:count])
    return ingest


def given_released(volume: Volume, owner: str, count: int) -> None:
    given_ingest(volume, owner, count).release()


def given_killed(volume: Volume, owner: str, count: int) -> None:
    given_ingest(volume, owner, count).abandon()


def test_the_ingests_of_living_owners_are_left_as_they_are(volume: Volume, tmp_path: Path) -> None:
    given_released(volume, "1", MIB)
    living = given_ingest(volume, "2", 3 * MIB)

    heir = Ingest.begin(volume, DIGEST, len(BODY), "3", alive={"1", "2"})

    assert heir.offset == 0
    left = {"1.released", "1.journal", "2", "2.journal"}
    assert ingest_names(tmp_path) == left | {"3", "3.journal"}
    write(living, BODY[3 * MIB :])
    living.commit()
    assert blob(tmp_path).read_bytes() == BODY
    heir.discard()


def test_the_best_of_the_dead_is_inherited_beside_the_living(
    volume: Volume, tmp_path: Path
) -> None:
    given_released(volume, "1", MIB)
    living = given_ingest(volume, "2", 3 * MIB)
    given_killed(volume, "3", 2 * MIB)

    heir = Ingest.begin(volume, DIGEST, len(BODY), "4", alive={"2"})

    assert heir.offset == 2 * MIB
    assert ingest_names(tmp_path) == {"2", "2.journal", "3", "3.journal", "4", "4.journal"}
    heir.discard()
    living.discard()


def test_dead_ingests_are_removed_but_for_the_one_that_was_copied(
    volume: Volume, tmp_path: Path
) -> None:
    given_killed(volume, "1", MIB)
    zombie = given_ingest(volume, "2", 2 * MIB)
    given_released(volume, "3", 0)
    heir = begin(volume, "4")
    assert heir.offset == 2 * MIB
    assert ingest_names(tmp_path) == {"2", "2.journal", "4", "4.journal"}
    zombie.abandon()
    heir.discard()


def test_a_takeover_beats_for_every_copied_piece_and_hashed_record(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_killed(volume, "1", 3 * MIB)
    monkeypatch.setattr(inheritance, "_COPY_BYTES", MIB)
    beats = Beats()
    heir = Ingest.begin(volume, DIGEST, len(BODY), "2", beat=beats)
    # Three pieces of bytes, one of the journal, three records.
    assert beats.count >= 7
    assert heir.offset == 3 * MIB
    heir.discard()


@pytest.mark.parametrize("last", range(1, 9))
def test_a_takeover_that_is_stopped_leaks_and_loses_nothing(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    given_killed(volume, "1", 3 * MIB)
    monkeypatch.setattr(inheritance, "_COPY_BYTES", MIB)
    before = open_descriptors()
    with pytest.raises(Stopped):
        Ingest.begin(volume, DIGEST, len(BODY), "2", beat=Beats(last))
    assert open_descriptors() == before
    heir = begin(volume, "3")
    assert heir.offset == 3 * MIB
    write(heir, BODY[3 * MIB :])
    heir.commit()
    assert blob(tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("last", [1, 2, 3])
def test_a_takeover_in_place_that_is_stopped_leaves_the_bytes_to_the_next(
    volume: Volume, last: int
) -> None:
    given_released(volume, "1", 3 * MIB)
    with pytest.raises(Stopped):
        Ingest.begin(volume, DIGEST, len(BODY), "2", beat=Beats(last))
    heir = begin(volume, "3")
    assert heir.offset == 3 * MIB
    heir.discard()


def test_an_abandoned_ingest_is_left_for_the_next_owner_to_copy(
    volume: Volume, tmp_path: Path
) -> None:
    before = open_descriptors()
    lost = begin(volume, "1")
    write(lost, BODY[: 2 * MIB])
    lost.abandon()
    assert open_descriptors() == before
    assert ingest_names(tmp_path) == {"1", "1.journal"}
    heir = begin(volume, "2")
    assert heir.offset == 2 * MIB
    heir.discard()


def test_nothing_is_left_of_one_that_is_abandoned_behind_the_commit_of_another(
    volume: Volume, tmp_path: Path
) -> None:
    first = begin(volume, "1")
    write(first, BODY)
    first.commit()
    late = begin(volume, "2")
    write(late, BODY[:MIB])
    late.abandon()
    assert ingest_names(tmp_path) == set()
    assert blob(tmp_path).read_bytes() == BODY


def test_an_abandoned_ingest_takes_nothing_more(volume: Volume, tmp_path: Path) -> None:
    lost = begin(volume, "1")
    write(lost, BODY)
    lost.abandon()
    for use in (lambda: lost.write(b""), lost.abandon, lost.release, lost.discard):
        use()
    for use in (lost.commit, lost.restart):
        with pytest.raises(VolumeUnavailable):
            use()
    assert ingest_names(tmp_path) == {"1", "1.journal"}
    assert not blob(tmp_path).exists()


@pytest.mark.parametrize("end", ["release", "discard", "commit"])
def test_an_ingest_that_has_ended_can_be_abandoned(
    volume: Volume, tmp_path: Path, end: str
) -> None:
    ingest = begin(volume, "1")
    write(ingest, BODY)
    getattr(ingest, end)()
    names = ingest_names(tmp_path)
    ingest.abandon()
    assert ingest_names(tmp_path) == names


def given_two_living(volume: Volume) -> tuple[Ingest, Ingest]:
    one = given_ingest(volume, "1", MIB)
    two = Ingest.begin(volume, DIGEST, len(BODY), "2", alive={"1"})
    write(two, BODY[: 2 * MIB])
    return one, two


def test_of_two_living_owners_the_second_finds_the_blob_of_the_first(
    volume: Volume, tmp_path: Path
) -> None:
    one, two = given_two_living(volume)
    write(two, BODY[2 * MIB :])
    two.commit()
    inode = blob(tmp_path).stat().st_ino

    write(one, BODY[MIB:])
    one.commit()

    assert blob(tmp_path).stat().st_ino == inode
    assert blob(tmp_path).read_bytes() == BODY
    assert [path.name for path in blob(tmp_path).parent.iterdir()] == [DIGEST.encoded]
    assert list((tmp_path / "ingest" / "sha256").iterdir()) == []


@pytest.mark.parametrize("end", ["release", "discard", "abandon"])
def test_a_living_owner_whose_ingest_was_swept_ends_in_peace(
    volume: Volume, tmp_path: Path, end: str
) -> None:
    before = open_descriptors()
    one, two = given_two_living(volume)
    write(two, BODY[2 * MIB :])
    two.commit()
    write(one, BODY[MIB : 2 * MIB])
    getattr(one, end)()
    assert open_descriptors() == before
    assert blob(tmp_path).read_bytes() == BODY
    assert ingest_names(tmp_path) == set()


def test_a_swept_ingest_whose_blob_is_gone_too_is_fetched_again(
    volume: Volume, tmp_path: Path
) -> None:
    before = open_descriptors()
    one, two = given_two_living(volume)
    write(two, BODY[2 * MIB :])
    two.commit()
    blob(tmp_path).unlink()
    write(one, BODY[MIB:])
    with pytest.raises(VolumeUnavailable, match="fetched again"):
        one.commit()
    one.release()
    assert open_descriptors() == before


def test_a_commit_beside_a_beginning_owner_is_survived_by_both(
    volume: Volume, tmp_path: Path
) -> None:
    given_killed(volume, "1", MIB)
    first = Ingest.begin(volume, DIGEST, len(BODY), "2", alive={"1"})
    write(first, BODY)

    # The directory is swept and removed while the heir copies.
    def commit_once() -> None:
        if not blob(tmp_path).exists():
            first.commit()

    heir = Ingest.begin(volume, DIGEST, len(BODY), "3", alive={"2"}, beat=commit_once)
    assert heir.offset == 0
    write(heir, BODY)
    heir.commit()
    assert blob(tmp_path).read_bytes() == BODY
    assert ingest_names(tmp_path) == set()


def test_a_document_is_put_without_a_look_at_the_ingests_of_others(
    volume: Volume, tmp_path: Path
) -> None:
    ones = [given_ingest(volume, owner, len(BODY)) for owner in "123"]
    assert len(ingest_names(tmp_path)) == 6
    store(volume, BODY)
    for one in ones:
        one.commit()
    assert blob(tmp_path).read_bytes() == BODY

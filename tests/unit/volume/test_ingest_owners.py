"""Several owners: those with live leases do not interfere; ingests of dead owners are inherited."""

import os
from pathlib import Path

import pytest

from shared.errors import VolumeUnavailable
from shared.volume.ingest import takeover
from shared.volume.ingest.ingest import Ingest
from shared.volume.store import Volume
from tests.builders.blobs import BODY, DIGEST, MIB, blob, store


def begin(volume: Volume, owner: str) -> Ingest:
    return Ingest.begin(volume, DIGEST, len(BODY), owner)


def write(ingest: Ingest, body: bytes, block: int = MIB) -> None:
    for start in range(0, len(body), block):
        ingest.write(body[start : start + block])


def ingest_names(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "ingest").rglob("*") if path.is_file()}


class Stopped(Exception):
    """Raised by `beat`."""


class Beats:
    """Counts the calls of `beat`, and raises in call number `last`."""

    def __init__(self, last: int | None = None) -> None:
        self.count = 0
        self.last = last

    def __call__(self) -> None:
        self.count += 1
        if self.count == self.last:
            raise Stopped


class AllOwners(set[str]):
    """A set of owners that contains every name."""

    def __contains__(self, _: object) -> bool:
        return True


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def given_ingest(volume: Volume, owner: str, count: int) -> Ingest:
    """An ingest with the first `count` bytes, which leaves earlier ingests alone."""
    ingest = Ingest.begin(volume, DIGEST, len(BODY), owner, alive=AllOwners())
    write(ingest, BODY[:count])
    return ingest


def given_released(volume: Volume, owner: str, count: int) -> None:
    given_ingest(volume, owner, count).release()


def given_killed(volume: Volume, owner: str, count: int) -> None:
    given_ingest(volume, owner, count).abandon()


def test_the_ingests_of_live_owners_are_not_touched(volume: Volume, tmp_path: Path) -> None:
    given_released(volume, "1", MIB)
    live = given_ingest(volume, "2", 3 * MIB)

    new_owner = Ingest.begin(volume, DIGEST, len(BODY), "3", alive={"1", "2"})

    assert new_owner.offset == 0
    left = {"1.released", "1.journal", "2", "2.journal"}
    assert ingest_names(tmp_path) == left | {"3", "3.journal"}
    write(live, BODY[3 * MIB :])
    live.commit()
    assert blob(tmp_path).read_bytes() == BODY
    new_owner.discard()


def test_the_longest_dead_ingest_is_inherited_while_others_are_live(
    volume: Volume, tmp_path: Path
) -> None:
    given_released(volume, "1", MIB)
    live = given_ingest(volume, "2", 3 * MIB)
    given_killed(volume, "3", 2 * MIB)

    new_owner = Ingest.begin(volume, DIGEST, len(BODY), "4", alive={"2"})

    assert new_owner.offset == 2 * MIB
    assert ingest_names(tmp_path) == {"2", "2.journal", "3", "3.journal", "4", "4.journal"}
    new_owner.discard()
    live.discard()


def test_dead_ingests_are_removed_except_the_copied_one(volume: Volume, tmp_path: Path) -> None:
    given_killed(volume, "1", MIB)
    zombie = given_ingest(volume, "2", 2 * MIB)
    given_released(volume, "3", 0)
    new_owner = begin(volume, "4")
    assert new_owner.offset == 2 * MIB
    assert ingest_names(tmp_path) == {"2", "2.journal", "4", "4.journal"}
    zombie.abandon()
    new_owner.discard()


def test_a_takeover_calls_beat_for_every_copied_piece_and_checked_record(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_killed(volume, "1", 3 * MIB)
    monkeypatch.setattr(takeover, "_COPY_BYTES", MIB)
    beats = Beats()
    new_owner = Ingest.begin(volume, DIGEST, len(BODY), "2", beat=beats)
    # Three pieces of bytes, one of the journal, three records.
    assert beats.count >= 7
    assert new_owner.offset == 3 * MIB
    new_owner.discard()


@pytest.mark.parametrize("last", range(1, 9))
def test_a_stopped_takeover_leaks_no_descriptor_and_loses_no_bytes(
    volume: Volume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    given_killed(volume, "1", 3 * MIB)
    monkeypatch.setattr(takeover, "_COPY_BYTES", MIB)
    before = open_descriptors()
    with pytest.raises(Stopped):
        Ingest.begin(volume, DIGEST, len(BODY), "2", beat=Beats(last))
    assert open_descriptors() == before
    new_owner = begin(volume, "3")
    assert new_owner.offset == 3 * MIB
    write(new_owner, BODY[3 * MIB :])
    new_owner.commit()
    assert blob(tmp_path).read_bytes() == BODY


@pytest.mark.parametrize("last", [1, 2, 3])
def test_a_stopped_takeover_in_place_leaves_the_bytes_to_the_next_owner(
    volume: Volume, last: int
) -> None:
    given_released(volume, "1", 3 * MIB)
    with pytest.raises(Stopped):
        Ingest.begin(volume, DIGEST, len(BODY), "2", beat=Beats(last))
    new_owner = begin(volume, "3")
    assert new_owner.offset == 3 * MIB
    new_owner.discard()


def test_an_abandoned_ingest_is_left_for_the_next_owner_to_copy(
    volume: Volume, tmp_path: Path
) -> None:
    before = open_descriptors()
    abandoned = begin(volume, "1")
    write(abandoned, BODY[: 2 * MIB])
    abandoned.abandon()
    assert open_descriptors() == before
    assert ingest_names(tmp_path) == {"1", "1.journal"}
    new_owner = begin(volume, "2")
    assert new_owner.offset == 2 * MIB
    new_owner.discard()


def test_abandoning_an_ingest_after_another_owners_commit_removes_it(
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


def test_an_abandoned_ingest_accepts_no_bytes(volume: Volume, tmp_path: Path) -> None:
    abandoned = begin(volume, "1")
    write(abandoned, BODY)
    abandoned.abandon()
    for use in (
        lambda: abandoned.write(b""),
        abandoned.abandon,
        abandoned.release,
        abandoned.discard,
    ):
        use()
    for use in (abandoned.commit, abandoned.restart):
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


def given_two_live(volume: Volume) -> tuple[Ingest, Ingest]:
    first = given_ingest(volume, "1", MIB)
    second = Ingest.begin(volume, DIGEST, len(BODY), "2", alive={"1"})
    write(second, BODY[: 2 * MIB])
    return first, second


def test_the_second_live_owner_to_commit_keeps_the_first_blob(
    volume: Volume, tmp_path: Path
) -> None:
    first, second = given_two_live(volume)
    write(second, BODY[2 * MIB :])
    second.commit()
    inode = blob(tmp_path).stat().st_ino

    write(first, BODY[MIB:])
    first.commit()

    assert blob(tmp_path).stat().st_ino == inode
    assert blob(tmp_path).read_bytes() == BODY
    assert [path.name for path in blob(tmp_path).parent.iterdir()] == [DIGEST.encoded]
    assert list((tmp_path / "ingest" / "sha256").iterdir()) == []


@pytest.mark.parametrize("end", ["release", "discard", "abandon"])
def test_a_live_owner_can_end_after_its_ingest_was_removed(
    volume: Volume, tmp_path: Path, end: str
) -> None:
    before = open_descriptors()
    first, second = given_two_live(volume)
    write(second, BODY[2 * MIB :])
    second.commit()
    write(first, BODY[MIB : 2 * MIB])
    getattr(first, end)()
    assert open_descriptors() == before
    assert blob(tmp_path).read_bytes() == BODY
    assert ingest_names(tmp_path) == set()


def test_a_removed_ingest_without_a_stored_blob_is_fetched_again(
    volume: Volume, tmp_path: Path
) -> None:
    before = open_descriptors()
    first, second = given_two_live(volume)
    write(second, BODY[2 * MIB :])
    second.commit()
    blob(tmp_path).unlink()
    write(first, BODY[MIB:])
    with pytest.raises(VolumeUnavailable, match="fetched again"):
        first.commit()
    first.release()
    assert open_descriptors() == before


def test_a_commit_during_another_owners_takeover_harms_neither(
    volume: Volume, tmp_path: Path
) -> None:
    given_killed(volume, "1", MIB)
    first = Ingest.begin(volume, DIGEST, len(BODY), "2", alive={"1"})
    write(first, BODY)

    # The commit empties and removes the directory while the new owner copies.
    def commit_once() -> None:
        if not blob(tmp_path).exists():
            first.commit()

    new_owner = Ingest.begin(volume, DIGEST, len(BODY), "3", alive={"2"}, beat=commit_once)
    assert new_owner.offset == 0
    write(new_owner, BODY)
    new_owner.commit()
    assert blob(tmp_path).read_bytes() == BODY
    assert ingest_names(tmp_path) == set()


def test_storing_a_small_blob_leaves_other_ingests_alone(volume: Volume, tmp_path: Path) -> None:
    ingests = [given_ingest(volume, owner, len(BODY)) for owner in "123"]
    assert len(ingest_names(tmp_path)) == 6
    store(volume, BODY)
    for ingest in ingests:
        ingest.commit()
    assert blob(tmp_path).read_bytes() == BODY

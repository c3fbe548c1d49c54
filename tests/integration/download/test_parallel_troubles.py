"""Several connections for one blob, some of which fail."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import DigestMismatch
from tests.builders.downloads import KIB, MIB, Downloads, downloads, joined, range_of
from tests.fakes.answers import Request
from tests.fakes.faults import Corrupt, Cut, Redirect, Stall, Status, Throttle
from tests.fakes.front_ends import after_requests, every_nth_connection, every_nth_request
from tests.fakes.registry import Auth, FakeRegistry

BLOB = os.urandom(4 * MIB + 17)
SLOWLY = Throttle(bytes_per_second=MIB, piece_bytes=8 * KIB)


@pytest.fixture
def storage() -> Iterator[FakeRegistry]:
    """The storage behind a registry."""
    with FakeRegistry() as storage:
        yield storage


@pytest.fixture
def given(registry: FakeRegistry, volume_path: Path) -> Iterator[Downloads]:
    with downloads(BLOB, registry, volume_path, stall_timeout_seconds=1) as given:
        yield given


def test_a_stalled_connection_is_replaced_and_no_byte_is_sent_twice(
    given: Downloads, registry: FakeRegistry
) -> None:
    stall = Stall(after_bytes=20_000, times=1, when=after_requests(8))
    registry.fail(SLOWLY, stall)
    progress = given.run(4)
    assert given.stored() == BLOB
    assert progress.fetched == len(BLOB)
    (stalled,) = [request for request in given.asked if request.sent == 20_000]
    first, end = range_of(stalled)
    assert (first + 20_000, end) in [range_of(request) for request in given.asked]
    stall.until.set()


@pytest.mark.parametrize("reset", [False, True], ids=["cut", "RST"])
def test_broken_connections_are_continued_from_the_byte_they_reached(
    given: Downloads, registry: FakeRegistry, reset: bool
) -> None:
    registry.fail(SLOWLY, Cut(after_bytes=20_000, reset=reset, when=every_nth_request(3)))
    progress = given.run(4)
    assert given.stored() == BLOB
    assert len(given.ports) > 4
    assert progress.fetched == len(BLOB)


def test_connections_that_break_before_their_first_byte_do_not_fail_the_others(
    given: Downloads, registry: FakeRegistry
) -> None:
    registry.fail(SLOWLY, Cut(after_bytes=0, when=every_nth_connection(3)))
    progress = given.run(4)
    assert given.stored() == BLOB
    assert progress.fetched == len(BLOB)


def test_a_slow_front_end_is_given_up_and_its_range_is_continued(
    registry: FakeRegistry, volume_path: Path
) -> None:
    is_slow = every_nth_connection(4)
    slow: list[Request] = []

    def remember(request: Request) -> bool:
        if not is_slow(request):
            return False
        slow.append(request)
        return True

    usual = Throttle(
        bytes_per_second=2 * MIB, piece_bytes=8 * KIB, when=lambda request: not remember(request)
    )
    # The slow connection would take minutes for its range.
    registry.fail(
        usual,
        Throttle(bytes_per_second=4 * KIB, piece_bytes=KIB, when=lambda request: request in slow),
    )
    blob = BLOB * 3
    with downloads(blob, registry, volume_path, 512 * KIB) as given:
        progress = given.run(4)
        assert given.stored() == blob
        assert slow
        # No byte was fetched twice.
        assert progress.fetched == len(blob)
        ends = {range_of(request)[0]: range_of(request)[1] for request in given.asked}
        for request in slow:
            first, end = range_of(request)
            continued = [at for at in ends if first <= at <= first + request.sent]
            assert any(ends[at] <= end for at in continued)


def test_after_wrong_bytes_in_one_range_the_whole_blob_is_fetched_again(
    given: Downloads, registry: FakeRegistry
) -> None:
    registry.fail(SLOWLY, Corrupt(times=1, when=after_requests(8)))
    ingest = given.begin()
    with pytest.raises(DigestMismatch):
        given.run(4, ingest)
    assert ingest.gaps() == [(0, len(BLOB))]
    before = len(given.asked)
    progress = given.run(4, ingest)
    assert given.stored() == BLOB
    assert progress.fetched == len(BLOB)
    assert joined([range_of(request) for request in given.asked[before:]]) == [(0, len(BLOB))]


def test_after_wrong_inherited_bytes_the_blob_is_fetched_again_at_once(
    given: Downloads, registry: FakeRegistry
) -> None:
    early = given.begin("1")
    early.write(bytes(MIB))
    early.release()
    registry.fail(SLOWLY)
    progress = given.run(4, given.begin("2"))
    assert given.stored() == BLOB
    assert progress.fetched == len(BLOB) - MIB + len(BLOB)


@pytest.mark.parametrize("status", [403, 404])
def test_a_new_signed_url_is_requested_when_it_expires_during_the_download(
    given: Downloads, registry: FakeRegistry, storage: FakeRegistry, status: int
) -> None:
    registry.auth = Auth("bearer", anonymous=True)
    registry.fail(Redirect(host=storage.host))
    storage.put_blob(BLOB)
    served = after_requests(12)

    def signatures() -> int:
        return sum(request.status == 307 for request in given.asked)

    refused = Status(status=status, when=lambda request: served(request) and signatures() == 1)
    storage.fail(SLOWLY, refused)
    given.run(4)
    assert given.stored() == BLOB
    at_target = storage.asked("/blobs/")
    assert all("authorization" not in request.headers for request in at_target)
    # Each connection may still have used the old URL.
    assert 2 <= signatures() <= 5
    partial = [request for request in at_target if request.status == 206]
    assert joined([range_of(request) for request in partial]) == [(0, len(BLOB))]

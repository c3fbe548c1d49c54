"""Several connections for one blob that are stopped, released or killed."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.download.progress import Progress
from shared.errors import PullCancelled
from tests.builders.downloads import (
    KIB,
    MIB,
    Downloads,
    downloads,
    joined,
    range_of,
    threads_at_work,
)
from tests.fakes.faults import Stall, Throttle
from tests.fakes.front_ends import after_requests
from tests.fakes.registry import FakeRegistry
from tests.support.waiting import wait_until

BLOB = os.urandom(4 * MIB + 17)
CHUNK_BYTES = 64 * KIB
CONNECTIONS = 4
SLOWLY = Throttle(bytes_per_second=MIB, piece_bytes=8 * KIB)
CANCELLED = PullCancelled("The pull was cancelled.")
# Far longer than any test waits: the stall timeout ends nothing here.
SILENCE_SECONDS = 600


@pytest.fixture
def given(registry: FakeRegistry, volume_path: Path) -> Iterator[Downloads]:
    settings = {"stall_timeout_seconds": SILENCE_SECONDS}
    with downloads(BLOB, registry, volume_path, CHUNK_BYTES, **settings) as given:
        yield given


@pytest.fixture
def silence(given: Downloads, registry: FakeRegistry) -> Iterator[Stall]:
    """Once all connections are open, every further response falls silent after some bytes."""
    stall = Stall(after_bytes=30_000, when=lambda _request: len(given.ports) >= CONNECTIONS)
    registry.fail(SLOWLY, stall)
    yield stall
    stall.until.set()


def all_are_silent(given: Downloads) -> bool:
    silent = [request for request in given.asked if request.sent == 30_000]
    return len(silent) == CONNECTIONS


@pytest.mark.usefixtures("silence")
def test_a_stop_ends_connections_that_wait_for_bytes_at_once(given: Downloads) -> None:
    ingest, progress = given.begin(), Progress()
    downloading = given.start(CONNECTIONS, ingest, progress)
    wait_until(lambda: all_are_silent(given))
    before = threads_at_work()
    progress.stop(CANCELLED)
    assert downloading.exception(timeout=10) is CANCELLED
    assert before.count("range-connection") == CONNECTIONS
    assert threads_at_work() == []
    asked = len(given.asked)
    assert given.bytes_there(ingest) == ingest.offset > 0
    assert len(given.asked) == asked


def test_a_stop_ends_connections_that_receive_bytes_at_once(
    given: Downloads, registry: FakeRegistry
) -> None:
    registry.fail(SLOWLY)
    ingest, progress = given.begin(), Progress()
    downloading = given.start(CONNECTIONS, ingest, progress)
    wait_until(lambda: len(given.ports) == CONNECTIONS)
    progress.stop(CANCELLED)
    assert downloading.exception(timeout=10) is CANCELLED
    assert threads_at_work() == [] or set(threads_at_work()) == {"request-body"}
    assert given.bytes_there(ingest) == ingest.offset < len(BLOB)


def test_only_the_missing_bytes_of_a_released_ingest_are_fetched_in_place(
    given: Downloads, registry: FakeRegistry, silence: Stall
) -> None:
    early, progress = given.begin("1"), Progress()
    downloading = given.start(CONNECTIONS, early, progress)
    wait_until(lambda: all_are_silent(given))
    progress.stop(CANCELLED)
    assert downloading.exception(timeout=10) is CANCELLED
    inode, asked = given.file("1").stat().st_ino, len(given.asked)
    early.release()
    registry.heal()
    registry.fail(SLOWLY)

    new_owner = given.begin("2")

    gaps = new_owner.gaps()
    assert new_owner.offset == early.offset
    assert given.file("2").stat().st_ino == inode
    assert len(gaps) >= CONNECTIONS
    given.run(CONNECTIONS, new_owner)
    assert given.stored() == BLOB
    assert joined([range_of(request) for request in given.asked[asked:]]) == gaps


def test_the_successor_of_a_killed_owner_fetches_little_more_than_what_was_missing(
    given: Downloads, registry: FakeRegistry, silence: Stall
) -> None:
    # A process in which every thread hangs: it closes nothing and records nothing more.
    zombie, hanging = given.begin("1"), Progress()
    downloading = given.start(CONNECTIONS, zombie, hanging)
    wait_until(lambda: all_are_silent(given))
    wait_until(lambda: zombie.offset == sum(request.sent for request in given.asked))
    asked = len(given.asked)
    registry.heal()
    registry.fail(SLOWLY)

    new_owner = given.begin("2")

    gaps = new_owner.gaps()
    assert zombie.offset - new_owner.offset <= CONNECTIONS * CHUNK_BYTES
    progress = given.run(CONNECTIONS, new_owner)
    assert given.stored() == BLOB
    assert joined([range_of(request) for request in given.asked[asked:]]) == gaps
    assert progress.fetched == sum(end - first for first, end in gaps)
    hanging.stop(CANCELLED)
    assert downloading.exception(timeout=10) is CANCELLED
    assert given.stored() == BLOB


def test_no_activity_is_expected_while_connections_wait_for_their_responses(
    given: Downloads, registry: FakeRegistry
) -> None:
    mute = Stall(mute=True, when=after_requests(0))
    registry.fail(mute)
    progress = Progress()
    downloading = given.start(CONNECTIONS, given.begin(), progress)
    wait_until(lambda: given.asked)
    wait_until(lambda: progress.active_at > time.monotonic() + SILENCE_SECONDS)
    progress.stop(CANCELLED)
    assert downloading.exception(timeout=10) is CANCELLED
    mute.until.set()
    wait_until(lambda: threads_at_work() == [])

"""Several connections for one blob: how many, for which bytes, to which hosts."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.builders.downloads import KIB, MIB, downloads, joined, range_of
from tests.fakes.faults import (
    Fault,
    IgnoreRange,
    RefuseRange,
    Throttle,
    WrongRange,
)
from tests.fakes.front_ends import Door, FarAway, after_requests
from tests.fakes.registry import FakeRegistry
from tests.support.waiting import wait_until

BLOB = os.urandom(5 * MIB + 17)
# For each connection, in pieces small enough that bytes arrive all the time.
SLOWLY = Throttle(bytes_per_second=MIB, piece_bytes=8 * KIB)


@pytest.mark.parametrize("connections", [4, 8])
def test_slow_connections_reach_the_maximum_number_and_share_the_blob(
    registry: FakeRegistry, volume_path: Path, connections: int
) -> None:
    registry.fail(SLOWLY)
    with downloads(BLOB, registry, volume_path) as given:
        progress = given.run(connections)
        assert given.stored() == BLOB
        assert len(given.ports) == connections
        assert joined([range_of(request) for request in given.asked]) == [(0, len(BLOB))]
        assert sum(request.sent for request in given.asked) == len(BLOB)
        assert progress.fetched == progress.offset == len(BLOB)


def test_connections_with_a_late_first_byte_reach_the_maximum_number_too(
    registry: FakeRegistry, volume_path: Path
) -> None:
    registry.fail(FarAway(seconds=0.25), Throttle(bytes_per_second=2 * MIB, piece_bytes=8 * KIB))
    with downloads(BLOB, registry, volume_path, chunk_bytes=512 * KIB) as given:
        given.run(4)
        assert given.stored() == BLOB
        assert len(given.ports) == 4


def test_a_limit_of_one_connection_means_one_plain_request(
    registry: FakeRegistry, volume_path: Path
) -> None:
    with downloads(BLOB, registry, volume_path) as given:
        given.run(1)
        assert given.stored() == BLOB
        assert [request.range for request in given.asked] == [None]


def test_a_blob_of_one_chunk_takes_one_plain_request(
    registry: FakeRegistry, volume_path: Path
) -> None:
    with downloads(BLOB, registry, volume_path, chunk_bytes=len(BLOB)) as given:
        given.run(8)
        assert given.stored() == BLOB
        assert [request.range for request in given.asked] == [None]


def test_a_blob_of_10_mib_is_shared_and_no_byte_is_sent_twice(
    registry: FakeRegistry, volume_path: Path
) -> None:
    registry.fail(Throttle(bytes_per_second=4 * MIB, piece_bytes=64 * KIB))
    blob = BLOB * 2
    with downloads(blob, registry, volume_path, chunk_bytes=16 * MIB) as given:
        progress = given.run(4)
        assert given.stored() == blob
        assert range_of(given.asked[0]) == (0, 2 * MIB)
        assert len(given.ports) >= 3
        assert sum(request.sent for request in given.asked) == len(blob) == progress.fetched


@pytest.mark.parametrize(
    "fault",
    [
        IgnoreRange(when=after_requests(12)),
        RefuseRange(status=400, when=after_requests(12)),
        RefuseRange(status=416, when=after_requests(12)),
        WrongRange(shift=1, when=after_requests(12)),
    ],
    ids=["200", "400", "416", "another range"],
)
def test_a_host_that_stops_serving_ranges_gets_plain_requests_from_then_on(
    registry: FakeRegistry, volume_path: Path, fault: Fault
) -> None:
    # Slow at first, so that several connections are opened.
    registry.fail(replace(SLOWLY, times=14), fault)
    with downloads(BLOB, registry, volume_path) as given:
        given.run(4)
        assert given.stored() == BLOB
        # One response sent the whole blob.
        wait_until(lambda: len(BLOB) in {request.sent for request in given.asked})

        given.blob = BLOB[::-1]
        registry.put_blob(given.blob)
        given.run(4)
        assert given.stored() == given.blob
        assert [request.range for request in given.asked] == [None]


@pytest.mark.parametrize("status", [429, 503])
def test_a_host_that_accepts_few_connections_gets_few(
    registry: FakeRegistry, volume_path: Path, status: int
) -> None:
    registry.fail(SLOWLY)
    with downloads(BLOB, registry, volume_path) as given:
        door = Door(registry, 3, status)
        given.run(8)
        assert given.stored() == BLOB
        assert door.refused
        served = [request for request in given.asked if request.status == 206]
        assert joined([range_of(request) for request in served]) == [(0, len(BLOB))]
        assert len({request.port for request in served}) >= 2
        # Refused connections are not tried again and again.
        assert door.refused <= 8

"""Whole pulls of a layer that is fetched over several connections."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.downloads import KIB, MIB, joined, range_of
from tests.fakes.faults import Corrupt, Cut, Fault, Throttle
from tests.fakes.front_ends import Door, after_requests, every_nth_request
from tests.fakes.registry import FakeRegistry
from tests.support.driver import driving

BLOB = os.urandom(4 * MIB + 17)
SLOWLY = Throttle(bytes_per_second=MIB, piece_bytes=8 * KIB)


@pytest.fixture
def mirror() -> Iterator[FakeRegistry]:
    with FakeRegistry() as mirror:
        yield mirror


def test_a_mirror_with_wrong_bytes_is_replaced_by_the_registry(
    registry: FakeRegistry,
    mirror: FakeRegistry,
    migrated_url: str,
    volume_path: Path,
    tmp_path: Path,
) -> None:
    for host in (registry, mirror):
        host.put_image("team/app", "1", [BLOB])
        host.fail(SLOWLY)
    mirror.fail(Corrupt(when=every_nth_request(5)))
    file = tmp_path / "registries.toml"
    file.write_text(f'[[registries."{registry.host}".mirrors]]\nurl = "http://{mirror.host}"\n')
    with driving(
        migrated_url,
        volume_path,
        registries_file=file,
        minimum_free_bytes=0,
        layer_connections=4,
        chunk_bytes=64 * KIB,
    ) as driver:
        receipt = driver.pull(f"{registry.host}/team/app:1")
        assert receipt["bytes_fetched"] == 2 * len(BLOB)
        assert driver.delays == []
        digest = next(digest for digest, raw in driver.blobs().items() if raw == BLOB)
    for host in (registry, mirror):
        asked = host.asked(digest)
        assert joined([range_of(request) for request in asked]) == [(0, len(BLOB))]
        assert len({request.port for request in asked}) > 1


@pytest.mark.parametrize(
    "fault",
    [
        Cut(after_bytes=30_000, times=2, when=every_nth_request(4)),
        Corrupt(times=1, when=after_requests(8)),
    ],
    ids=["cut", "wrong bytes"],
)
def test_a_pull_completes_after_broken_connections_or_wrong_bytes(
    registry: FakeRegistry, migrated_url: str, volume_path: Path, fault: Fault
) -> None:
    registry.put_image("team/app", "1", [BLOB])
    registry.fail(SLOWLY, fault)
    with driving(
        migrated_url, volume_path, minimum_free_bytes=0, layer_connections=4, chunk_bytes=64 * KIB
    ) as driver:
        receipt = driver.pull(f"{registry.host}/team/app:1")
        assert BLOB in driver.blobs().values()
        # A broken connection costs no bytes. Wrong bytes cost an attempt and the whole blob.
        attempts = 2 if isinstance(fault, Corrupt) else 1
        assert receipt["bytes_fetched"] == attempts * len(BLOB)
        assert len(driver.delays) == attempts - 1


def test_a_pull_from_a_host_that_accepts_few_connections_counts_no_failure(
    registry: FakeRegistry, migrated_url: str, volume_path: Path
) -> None:
    registry.put_image("team/app", "1", [BLOB])
    registry.fail(SLOWLY)
    door = Door(registry, 3, 503)
    with driving(
        migrated_url, volume_path, minimum_free_bytes=0, layer_connections=8, chunk_bytes=64 * KIB
    ) as driver:
        receipt = driver.pull(f"{registry.host}/team/app:1")
        assert receipt["bytes_fetched"] == len(BLOB)
        assert driver.delays == []
        assert door.refused

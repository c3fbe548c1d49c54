"""Mirrors of a registry, and foreign layers."""

import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import redis

from shared.errors import Forbidden, ManifestUnknown, RegistryUnavailable
from shared.oci.reference import Reference
from shared.registry.client import RegistryClient
from shared.settings import Settings
from tests.fakes.faults import Corrupt, Cut, CutAt, Status
from tests.fakes.registry import FakeRegistry, digest_of
from tests.fakes.registry_auth import Auth
from tests.support.driver import Driver, driving
from tests.support.secrecy import secret
from workers.embedded.servers import free_port

SECRET = secret("login")
LAYER = os.urandom(600_000)
DIGEST = digest_of(LAYER)


@pytest.fixture
def upstream() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.put_image("team/app", "1", [LAYER])
        yield registry


@pytest.fixture
def mirror() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        registry.put_image("team/app", "1", [LAYER])
        yield registry


@pytest.fixture
def driver(
    upstream: FakeRegistry,
    mirror: FakeRegistry,
    migrated_url: str,
    volume_path: Path,
    redis_url: str,
) -> Iterator[Driver]:
    with fleet_of(upstream, [mirror.host], migrated_url, volume_path, redis_url) as driver:
        yield driver


def fleet_of(
    upstream: FakeRegistry,
    mirrors: list[str],
    database_url: str,
    volume: Path,
    redis_url: str,
    more: str = "",
) -> AbstractContextManager[Driver]:
    file = registries_file(volume.parent, upstream, mirrors, more)
    return driving(
        database_url, volume, redis_url, registries_file=file, minimum_free_bytes=0, attempts=2
    )


def registries_file(
    folder: Path, upstream: FakeRegistry, mirrors: list[str], more: str = ""
) -> Path:
    lines = [f'[registries."{upstream.host}"]', more]
    for host in mirrors:
        lines += [f'[[registries."{upstream.host}".mirrors]]', f'url = "http://{host}"']
    file = folder / "registries.toml"
    file.write_text("\n".join(lines))
    return file


def pull(driver: Driver, upstream: FakeRegistry) -> dict[str, object]:
    return driver.pull(f"{upstream.host}/team/app:1")


def test_a_mirror_serves_a_whole_image_without_the_registry(
    driver: Driver, upstream: FakeRegistry, mirror: FakeRegistry
) -> None:
    receipt = pull(driver, upstream)
    assert receipt["reference"] == f"{upstream.host}/team/app:1"
    assert driver.blobs()[DIGEST] == LAYER
    assert upstream.requests == []
    assert len(mirror.asked(DIGEST)) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_a_mirror_that_answers_with_an_error_is_skipped(
    driver: Driver, upstream: FakeRegistry, mirror: FakeRegistry, status: int
) -> None:
    mirror.fail(Status(path="/v2/", status=status))
    assert pull(driver, upstream)["bytes_fetched"] == len(LAYER)
    assert driver.delays == []
    assert len(upstream.asked(DIGEST)) == 1


def test_a_mirror_without_the_layer_is_skipped(
    driver: Driver, upstream: FakeRegistry, mirror: FakeRegistry
) -> None:
    del mirror.blobs[DIGEST]
    assert pull(driver, upstream)["bytes_fetched"] == len(LAYER)
    assert driver.delays == []


def test_a_mirror_that_serves_wrong_bytes_is_excluded(
    driver: Driver, upstream: FakeRegistry, mirror: FakeRegistry
) -> None:
    mirror.fail(Corrupt(path=DIGEST, byte=5))
    assert pull(driver, upstream)["bytes_fetched"] == 2 * len(LAYER)
    assert driver.blobs()[DIGEST] == LAYER
    assert driver.delays == []
    # The mirror gets no more requests for a while.
    upstream.put_image("team/app", "2", [LAYER + b"more"])
    mirror.put_image("team/app", "2", [LAYER + b"more"])
    before = len(mirror.requests)
    driver.pull(f"{upstream.host}/team/app:2")
    assert len(mirror.requests) == before


def test_a_mirror_that_serves_another_manifest_is_skipped(
    driver: Driver, upstream: FakeRegistry, mirror: FakeRegistry
) -> None:
    mirror.fail(Corrupt(path="/manifests/", byte=30))
    pull(driver, upstream)
    assert len(upstream.asked("/manifests/1")) == 1


def test_the_registry_continues_a_body_that_a_mirror_cut(
    driver: Driver, upstream: FakeRegistry, mirror: FakeRegistry
) -> None:
    mirror.fail(CutAt(path=DIGEST, byte=200_000))
    assert pull(driver, upstream)["bytes_fetched"] == len(LAYER)
    (rest,) = upstream.asked(DIGEST)
    assert rest.headers["range"] == f"bytes=200000-{len(LAYER) - 1}"
    assert driver.delays == []


def test_a_mirror_with_an_empty_body_is_skipped(
    driver: Driver, upstream: FakeRegistry, mirror: FakeRegistry
) -> None:
    mirror.fail(Cut(path=DIGEST, after_bytes=0))
    assert pull(driver, upstream)["bytes_fetched"] == len(LAYER)
    assert driver.delays == []


def test_the_fleet_remembers_an_unreachable_mirror(
    upstream: FakeRegistry,
    mirror: FakeRegistry,
    migrated_url: str,
    volume_path: Path,
    redis_url: str,
) -> None:
    unreachable = f"127.0.0.1:{free_port()}"
    with fleet_of(upstream, [unreachable], migrated_url, volume_path, redis_url) as driver:
        pull(driver, upstream)
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        assert client.hget(f"towline:registry:{unreachable}", "deaths") == "1"
        # Give this state to a working mirror, so that a request of another node would be seen.
        client.rename(f"towline:registry:{unreachable}", f"towline:registry:{mirror.host}")
    upstream.put_image("team/app", "1", [b"another"])
    with fleet_of(upstream, [mirror.host], migrated_url, volume_path, redis_url) as driver:
        pull(driver, upstream)
    assert mirror.requests == []


def test_a_mirror_does_not_get_the_registrys_credentials(
    upstream: FakeRegistry,
    mirror: FakeRegistry,
    migrated_url: str,
    volume_path: Path,
    redis_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("UPSTREAM_PASSWORD", SECRET)
    upstream.auth = Auth("basic", users={"ci": SECRET})
    mirror.auth = Auth("basic", users={"ci": SECRET})
    more = 'username = "ci"\npassword_env = "UPSTREAM_PASSWORD"'
    with fleet_of(upstream, [mirror.host], migrated_url, volume_path, redis_url, more) as driver:
        pull(driver, upstream)
    assert mirror.requests
    assert all("authorization" not in request.headers for request in mirror.requests)
    assert len(upstream.asked(DIGEST)) == 1


def test_the_registrys_error_wins_over_its_mirrors(
    driver: Driver, upstream: FakeRegistry, mirror: FakeRegistry
) -> None:
    mirror.fail(Status(path="/v2/", status=404))
    upstream.fail(Status(path="/v2/", status=403))
    with pytest.raises(Forbidden):
        pull(driver, upstream)


def test_the_error_of_a_broken_mirror_wins_over_not_found(
    upstream: FakeRegistry, tmp_path: Path
) -> None:
    unreachable = f"127.0.0.1:{free_port()}"
    file = registries_file(tmp_path, upstream, [unreachable])
    client = RegistryClient(Settings(registries_file=file))
    with pytest.raises(RegistryUnavailable):
        client.manifest(Reference.parse(f"{upstream.host}/team/app:none"))
    client.close()


def test_not_found_on_every_host_is_not_found(
    driver: Driver, upstream: FakeRegistry, mirror: FakeRegistry
) -> None:
    with pytest.raises(ManifestUnknown):
        driver.pull(f"{upstream.host}/team/app:none")
    assert len(mirror.requests) == len(upstream.requests) == 1


def test_a_foreign_layer_is_fetched_from_its_descriptors_url(
    driver: Driver, upstream: FakeRegistry, mirror: FakeRegistry
) -> None:
    elsewhere = f"http://{mirror.host}/v2/x/blobs/{DIGEST}"
    media_type, raw = upstream.manifests["team/app", "1"]
    manifest = json.loads(raw)
    manifest["layers"][0]["urls"] = ["http://169.254.169.254/latest", elsewhere]
    for registry in (upstream, mirror):
        registry.put_manifest("team/app", "1", manifest, media_type)
    # Neither registry has the layer in the repository of the image.
    for registry in (upstream, mirror):
        registry.fail(Status(path=f"/team/app/blobs/{DIGEST}", status=404))
    assert pull(driver, upstream)["bytes_fetched"] == len(LAYER)
    assert driver.blobs()[DIGEST] == LAYER
    assert len(upstream.asked(f"/team/app/blobs/{DIGEST}")) == 1
    assert all("authorization" not in request.headers for request in mirror.requests)

"""S01 to S18: setup, tokens, and requests to registries."""

import pytest

from shared import errors
from shared.oci import media_type
from shared.registry.hosts import Hosts
from tests.fakes.faults import Corrupt, Stall, Status
from tests.fakes.registry import Auth, FakeRegistry, digest_of
from tests.integration.seed.broken_off import LARGE, SMALL, partial, try_layer
from tests.support.driver import Driver
from tests.support.secrecy import secret

pytestmark = pytest.mark.integration


SECRET = secret("login")


def test_s01_a_database_is_migrated_and_a_volume_made_before_any_pull(driver: Driver) -> None:
    assert driver.sql("SELECT version_num FROM alembic_version") == [("0005",)]
    assert driver.sql("SELECT count(*) FROM volume") == [(1,)]


def test_s02_every_registry_has_its_own_url() -> None:
    hosts = Hosts(None)
    assert hosts.host("docker.io").base == "https://registry-1.docker.io"
    assert hosts.host("ghcr.io").base == "https://ghcr.io"
    assert hosts.host("127.0.0.1:5000").base == "http://127.0.0.1:5000"


def test_s03_every_manifest_request_accepts_all_four_types(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    driver.pull(name)
    for request in registry.asked("manifests"):
        assert request.headers["accept"].split(", ") == media_type.ACCEPT.split(", ")
    assert media_type.ACCEPT.count("application/vnd.") == 4


def test_s04_a_silent_registry_times_out_and_proxy_variables_are_ignored(
    driver: Driver, registry: FakeRegistry, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    registry.fail(Stall(path="manifests", after_bytes=0, times=1))
    driver.pull(name)
    assert len(driver.delays) == 1
    assert registry.asked("manifests")[-1].headers["user-agent"].startswith("towline/")


def test_s05_a_failing_request_is_retried_after_its_retry_after(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    registry.fail(
        Status(path="manifests", status=503, times=1),
        Status(path="manifests", status=429, headers={"Retry-After": "7"}, times=1),
    )
    driver.pull(name)
    assert len(driver.delays) == 2
    assert driver.delays[1] >= 7


@pytest.mark.parametrize("path", ["/token", "manifests", "blobs"])
def test_s06_every_kind_of_request_is_retried(
    driver: Driver, registry: FakeRegistry, name: str, path: str
) -> None:
    registry.fail(Status(path=path, status=500, times=1))
    driver.pull(name)
    assert driver.newest().state == "complete"
    assert 500 in {request.status for request in registry.asked(path)}


def test_s07_a_token_is_requested_for_pulls_of_one_repository(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    driver.pull(name)
    (asked,) = registry.asked("/token")
    assert "scope=repository%3Ateam%2Fapp%3Apull" in asked.path
    assert "service=fake" in asked.path


@pytest.mark.parametrize("key", ["token", "access_token"])
def test_s08_the_token_may_be_under_either_key(
    driver: Driver, registry: FakeRegistry, name: str, key: str
) -> None:
    registry.auth = Auth("bearer", anonymous=True, token_key=key, life_seconds=None)
    driver.pull(name)


def test_s09_one_token_serves_a_whole_pull(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    driver.pull(name)
    assert len(registry.asked("/token")) == 1


def test_s10_a_refused_token_is_reported_in_a_sentence(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    registry.auth = Auth("bearer", users={"ci": SECRET})
    with pytest.raises(errors.Unauthorized, match="docker login"):
        driver.pull(name)


def test_s11_a_rejected_token_is_renewed_once(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    registry.auth = Auth("bearer", anonymous=True, uses=2)
    driver.pull(name)
    assert len(registry.asked("/token")) == 2


def test_s12_a_digest_reference_is_requested_by_digest(
    driver: Driver, registry: FakeRegistry
) -> None:
    digest = registry.put_image("a", None, [SMALL])
    driver.pull(f"{registry.host}/a:1@{digest}")
    assert registry.asked("manifests")[-1].path == f"/v2/a/manifests/{digest}"


def test_s13_the_status_decides_the_error(driver: Driver, registry: FakeRegistry) -> None:
    registry.fail(Status(path="manifests", status=404, body=b'{"config":{},"layers":[]}'))
    with pytest.raises(errors.ManifestUnknown):
        driver.pull(f"{registry.host}/a:1")


def test_s14_a_manifest_that_does_not_match_its_digest_is_refused(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    digest = registry.put_image("a", None, [SMALL])
    registry.fail(Corrupt(path=f"manifests/{digest}"))
    with pytest.raises(errors.DigestMismatch):
        driver.pull(f"{registry.host}/a@{digest}")


def test_s15_a_config_that_does_not_match_its_digest_is_refused(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    registry.fail(Corrupt(path="blobs"))
    with pytest.raises(errors.DigestMismatch):
        driver.pull(name)


def test_s16_a_fresh_download_sends_no_range(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    driver.pull(name)
    assert {request.range for request in registry.asked("blobs")} == {None}


def test_s17_a_range_is_closed(driver: Driver, registry: FakeRegistry, name: str) -> None:
    partial(driver, registry, name, 1_000_000)
    try_layer(driver)
    assert registry.asked(digest_of(LARGE))[-1].range == f"bytes=1000000-{len(LARGE) - 1}"


def test_s18_the_documents_are_kept_byte_for_byte(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    receipt = driver.pull(name)
    raw = registry.manifests["team/app", "1"][1]
    assert driver.blob(receipt["manifest"]).read_bytes() == raw
    assert digest_of(driver.blob(receipt["config"]).read_bytes()) == receipt["config"]

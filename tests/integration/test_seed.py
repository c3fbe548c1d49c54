"""What the project came from did, and what this one does instead: a list to read.

towline grew out of one file of another project, whose observable behaviours are numbered S01 to S45
and whose six tests T1 to T6. Each has a test here, of the better behaviour where it was lacking.
"""

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import errors
from shared.oci import media_type
from shared.oci.digest import Digest
from shared.oci.index import Index
from shared.oci.manifest import Manifest
from shared.oci.reference import Reference
from shared.registry.hosts import Hosts
from tests.driver import Driver, driving
from tests.fakes.faults import Corrupt, CutAt, Stall, Status
from tests.fakes.registry import OCI_LAYER, OCI_MANIFEST, Auth, FakeRegistry, digest_of
from tests.secrecy import secret
from workers.cli.display import display_for
from workers.cli.watching import Snapshot
from workers.pulling.attempts import TryAgain
from workers.pulling.fetching import fetch_layer

pytestmark = pytest.mark.integration

SECRET = secret("login")
SMALL, LARGE = os.urandom(50_000), os.urandom(3_000_000)


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry(Auth("bearer", anonymous=True)) as registry:
        registry.put_image("team/app", "1", [LARGE, SMALL])
        yield registry


@pytest.fixture
def name(registry: FakeRegistry) -> str:
    return f"{registry.host}/team/app:1"


@pytest.fixture
def driver(migrated_url: str, volume_path: Path) -> Iterator[Driver]:
    with driving(migrated_url, volume_path, stall_timeout_seconds=1) as driver:
        yield driver


def partial(driver: Driver, registry: FakeRegistry, name: str, reached: int) -> str:
    """A pull whose large layer broke off at `reached` bytes. Its id."""
    driver.plan("p", {"reference": name, "platform": "linux/amd64"})
    registry.fail(CutAt(path=digest_of(LARGE), byte=reached))
    with pytest.raises(TryAgain):
        try_layer(driver)
    registry.heal()
    return "p"


def try_layer(driver: Driver, raw: bytes = LARGE) -> None:
    fetch_layer(
        driver.resources,
        "p",
        Digest.parse(digest_of(raw)),
        lambda _offset, _size: None,
        driver.outbox,
    )


def ingest_bytes(driver: Driver) -> int:
    files = [path for path in (driver.volume / "ingest").rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files if path.suffix != ".journal")


# a1. Construction and constants


def test_s01_a_database_is_migrated_and_a_volume_made_before_any_pull(driver: Driver) -> None:
    assert driver.sql("SELECT version_num FROM alembic_version") == [("0003",)]
    assert driver.sql("SELECT count(*) FROM volume") == [(1,)]


def test_s02_any_registry_is_spoken_to_where_it_stands() -> None:
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


def test_s04_a_silent_registry_is_given_up_and_the_environment_does_not_speak_for_us(
    driver: Driver, registry: FakeRegistry, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    registry.fail(Stall(path="manifests", after_bytes=0, times=1))
    driver.pull(name)
    assert len(driver.delays) == 1
    assert registry.asked("manifests")[-1].headers["user-agent"].startswith("towline/")


def test_s05_a_failing_head_is_tried_again_and_retry_after_is_minded(
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
def test_s06_every_kind_of_request_is_tried_again(
    driver: Driver, registry: FakeRegistry, name: str, path: str
) -> None:
    registry.fail(Status(path=path, status=500, times=1))
    driver.pull(name)
    assert driver.newest().state == "complete"
    assert 500 in {request.status for request in registry.asked(path)}


# a2. Tokens


def test_s07_a_token_is_asked_for_pull_on_the_repository_alone(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    driver.pull(name)
    (asked,) = registry.asked("/token")
    assert "scope=repository%3Ateam%2Fapp%3Apull" in asked.path
    assert "service=fake" in asked.path


@pytest.mark.parametrize("key", ["token", "access_token"])
def test_s08_either_name_of_the_token_is_enough(
    driver: Driver, registry: FakeRegistry, name: str, key: str
) -> None:
    registry.auth = Auth("bearer", anonymous=True, token_key=key, life_seconds=None)
    driver.pull(name)


def test_s09_one_token_serves_a_whole_pull(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    driver.pull(name)
    assert len(registry.asked("/token")) == 1


def test_s10_a_refused_token_is_said_plainly(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    registry.auth = Auth("bearer", users={"ci": SECRET})
    with pytest.raises(errors.Unauthorized, match="docker login"):
        driver.pull(name)


def test_s11_a_token_that_is_refused_is_renewed_once(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    registry.auth = Auth("bearer", anonymous=True, uses=2)
    driver.pull(name)
    assert len(registry.asked("/token")) == 2


# a3. Fetch functions


def test_s12_a_digest_is_asked_for_by_itself(driver: Driver, registry: FakeRegistry) -> None:
    digest = registry.put_image("a", None, [SMALL])
    driver.pull(f"{registry.host}/a:1@{digest}")
    assert registry.asked("manifests")[-1].path == f"/v2/a/manifests/{digest}"


def test_s13_the_status_decides_before_the_body(driver: Driver, registry: FakeRegistry) -> None:
    registry.fail(Status(path="manifests", status=404, body=b'{"config":{},"layers":[]}'))
    with pytest.raises(errors.ManifestUnknown):
        driver.pull(f"{registry.host}/a:1")


def test_s14_a_manifest_that_is_not_its_digest_is_refused(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    digest = registry.put_image("a", None, [SMALL])
    registry.fail(Corrupt(path=f"manifests/{digest}"))
    with pytest.raises(errors.DigestMismatch):
        driver.pull(f"{registry.host}/a@{digest}")


def test_s15_a_config_that_is_not_its_digest_is_refused(
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


# a4. pull_image


def test_s19_no_image_stands_before_all_of_it_is_there(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    partial(driver, registry, name, 1_000_000)
    assert driver.sql("SELECT 1 FROM images") == []
    assert not (driver.volume / "images").exists()
    assert driver.link("p") is None


def test_s20_the_size_of_an_image_is_its_config_and_distinct_layers(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL, LARGE, SMALL])
    receipt = driver.pull(f"{registry.host}/a:1")
    config = driver.blob(receipt["config"]).stat().st_size
    assert driver.sql("SELECT size_bytes FROM images") == [(config + len(SMALL) + len(LARGE),)]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("alpine", "docker.io/library/alpine:latest"),
        ("a/b:1", "docker.io/a/b:1"),
        (f"a/b@sha256:{'0' * 64}", f"docker.io/a/b@sha256:{'0' * 64}"),
        (f"a/b:1@sha256:{'0' * 64}", f"docker.io/a/b:1@sha256:{'0' * 64}"),
    ],
)
def test_s21_a_reference_is_stored_in_its_canonical_form(text: str, canonical: str) -> None:
    assert str(Reference.parse(text)) == canonical


def test_s22_the_platform_stored_is_the_one_asked_for(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL], platform="linux/arm64")
    driver.pull(f"{registry.host}/a:1", platform="linux/aarch64")
    assert driver.sql("SELECT platform FROM images") == [("linux/arm64",)]


def test_s23_another_operating_system_is_never_a_fallback(
    driver: Driver, registry: FakeRegistry
) -> None:
    digest = registry.put_image("a", None, [SMALL], platform="windows/amd64")
    registry.put_index("a", "1", {"windows/amd64": digest})
    with pytest.raises(errors.PlatformNotFound, match="it has windows/amd64"):
        driver.pull(f"{registry.host}/a:1")


def test_s24_layers_and_diff_ids_that_do_not_pair_are_an_error_before_any_download(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL], config={"rootfs": {"type": "layers", "diff_ids": []}})
    with pytest.raises(errors.InvalidManifest, match="1 layers, its config 0"):
        driver.pull(f"{registry.host}/a:1")
    assert registry.asked(digest_of(SMALL)) == []


def test_s25_a_failed_layer_ends_the_pull_and_keeps_its_sisters(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    driver.plan("p", {"reference": name, "platform": "linux/amd64"})
    registry.fail(Status(path=digest_of(SMALL), status=404))
    with pytest.raises(errors.BlobUnknown):
        try_layer(driver, SMALL)
    asked = len(registry.requests)
    try_layer(driver)
    assert len(registry.requests) == asked
    assert driver.row("p").error_class == "BlobUnknown"


def test_s26_progress_counts_bytes_and_present_layers_too(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    registry.put_image("a", "1", [SMALL])
    driver.pull(f"{registry.host}/a:1")
    driver.plan("p", {"reference": name, "platform": "linux/amd64"})
    assert {layer.bytes_done for layer in driver.layers("p")} == {0, len(SMALL)}
    try_layer(driver)
    assert driver.row("p").bytes_done == len(SMALL) + len(LARGE)
    assert driver.announced[-1][0] == driver.announced[-1][1]


def test_s27_a_layers_row_is_what_was_verified_whatever_a_manifest_claims(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    driver.pull(name)
    lie = {"rootfs": {"type": "layers", "diff_ids": [digest_of(b"lie"), digest_of(b"lie")]}}
    registry.put_image("liar", "1", [LARGE, SMALL], config=lie)
    driver.pull(f"{registry.host}/liar:1")
    assert driver.sql("SELECT DISTINCT diff_id FROM layers") == [(None,)]
    claims = driver.sql(f"SELECT diff_id FROM image_layers WHERE reference = '{name}'")
    assert {row[0] for row in claims} == {digest_of(LARGE), digest_of(SMALL)}


def test_s28_linking_twice_links_once(driver: Driver, registry: FakeRegistry, name: str) -> None:
    driver.pull(name)
    driver.pull(name)
    assert driver.sql("SELECT count(*) FROM manifest_layers") == [(2,)]


def test_s29_success_returns_a_receipt(driver: Driver, registry: FakeRegistry, name: str) -> None:
    receipt = driver.pull(name, pull_id="p")
    assert set(receipt) == {
        *("pull_id", "reference", "platform", "manifest", "index", "config", "layers"),
        *("bytes_total", "bytes_fetched", "started_at", "finished_at"),
    }
    assert driver.row("p").receipt == receipt


# a5. One layer


def test_s30_a_download_stands_under_another_name_until_it_is_verified(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    partial(driver, registry, name, 1_000_000)
    assert digest_of(LARGE) not in driver.blobs()
    assert ingest_bytes(driver) == 1_000_000


def test_s31_only_the_catalog_says_that_a_layer_is_there(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    planted = driver.blob(digest_of(LARGE))
    planted.parent.mkdir(parents=True)
    planted.write_bytes(b"x" * len(LARGE))
    driver.pull(name)
    assert planted.read_bytes() == LARGE


def test_s32_directories_are_made_as_they_are_needed(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    assert [path.name for path in driver.volume.iterdir()] == ["towline-volume.json"]
    driver.pull(name)
    assert (driver.volume / "blobs" / "sha256").is_dir()


def test_s33_nothing_on_disk_means_a_whole_download(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    receipt = driver.pull(name)
    assert {layer["source"] for layer in receipt["layers"]} == {"network"}


def test_s34_bytes_on_disk_are_continued(driver: Driver, registry: FakeRegistry, name: str) -> None:
    partial(driver, registry, name, 1_000_000)
    receipt = driver.pull(name, pull_id="p")
    assert receipt["layers"][0]["source"] == "resumed"
    assert receipt["bytes_fetched"] == len(LARGE) + len(SMALL)


def test_s35_a_full_ingest_is_verified_not_believed(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    partial(driver, registry, name, 1_000_000)
    (released,) = (driver.volume / "ingest").rglob("*.released")
    released.write_bytes(b"x" * len(LARGE))
    try_layer(driver)
    assert driver.blob(digest_of(LARGE)).read_bytes() == LARGE


def test_s36_a_byte_too_many_is_not_written(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    registry.blobs[digest_of(LARGE)] = LARGE + b"x" * 1_000_000
    with pytest.raises(errors.SizeMismatch):
        driver.pull(name)
    assert ingest_bytes(driver) == 0


def test_s37_an_unknown_algorithm_is_refused_before_the_download(
    driver: Driver, registry: FakeRegistry
) -> None:
    layer = {"mediaType": OCI_LAYER, "digest": "xxhash:00", "size": 1}
    config = {"mediaType": "x/y", "digest": registry.put_blob(b"{}"), "size": 2}
    manifest = {"schemaVersion": 2, "config": config, "layers": [layer]}
    registry.put_manifest("a", "1", manifest, OCI_MANIFEST)
    with pytest.raises(errors.UnsupportedAlgorithm, match="xxhash"):
        driver.pull(f"{registry.host}/a:1")
    assert registry.asked("blobs") == []


def test_s38_wrong_bytes_are_dropped_and_named(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    registry.fail(Corrupt(path=digest_of(LARGE)))
    with pytest.raises(errors.DigestMismatch, match=digest_of(LARGE)):
        driver.pull(name)
    assert ingest_bytes(driver) == 0


def test_s39_a_stored_layer_is_read_only_and_alone_under_its_name(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    driver.pull(name)
    assert driver.blob(digest_of(LARGE)).stat().st_mode & 0o777 == 0o444
    assert not any(path.is_file() for path in (driver.volume / "ingest").rglob("*"))


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_s40_no_error_body_reaches_a_good_partial(
    driver: Driver, registry: FakeRegistry, name: str, status: int
) -> None:
    partial(driver, registry, name, 1_000_000)
    registry.fail(Status(path=digest_of(LARGE), status=status, body=b"<html>sorry"))
    with pytest.raises((TryAgain, errors.PermanentError)):
        try_layer(driver)
    assert ingest_bytes(driver) == 1_000_000


def test_s40_a_416_to_a_range_is_answered_by_asking_for_the_whole(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    partial(driver, registry, name, 1_000_000)
    registry.fail(Status(path=digest_of(LARGE), status=416, body=b"<html>sorry", times=1))
    try_layer(driver)
    assert driver.blob(digest_of(LARGE)).read_bytes() == LARGE


# a6. Progress output


def shown(driver: Driver, capsys: pytest.CaptureFixture[str]) -> str:
    display = display_for(sys.stdout, quiet=False)
    pull = driver.newest()
    display.show([Snapshot(pull, driver.layers(pull.id))])
    display.close()
    return capsys.readouterr().out


def test_s41_the_phase_is_said(
    driver: Driver, registry: FakeRegistry, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    driver.plan("p", {"reference": name, "platform": "linux/amd64"})
    assert f"{name}: fetching, 0 of 2 layers, 0 bytes of 3.0 MB" in shown(driver, capsys)


def test_s42_stored_layers_are_counted_out_of_all(
    driver: Driver, registry: FakeRegistry, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    driver.plan("p", {"reference": name, "platform": "linux/amd64"})
    try_layer(driver)
    assert "1 of 2 layers" in shown(driver, capsys)


def test_s43_a_layer_on_its_way_shows_its_bytes(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    partial(driver, registry, name, 1_000_000)
    assert driver.layers("p")[0].bytes_done == 1_000_000


def test_s44_a_failed_pull_is_shown_as_one_and_no_secret_with_it(
    driver: Driver, registry: FakeRegistry
) -> None:
    with pytest.raises(errors.ManifestUnknown):
        driver.pull(f"{registry.host}/nothing:1")
    row = driver.newest()
    assert row.error_message is not None
    assert row.error_message.endswith(".")
    assert not any(token in str(row) for token in (registry.auth or Auth()).issued)


# a7. Errors


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.Unauthorized),
        (403, errors.Forbidden),
        (404, errors.ManifestUnknown),
        (429, errors.RateLimited),
        (500, errors.RegistryUnavailable),
    ],
)
def test_s45_each_refusal_has_a_kind_of_its_own(
    driver: Driver, registry: FakeRegistry, name: str, status: int, kind: type[Exception]
) -> None:
    registry.fail(Status(path="manifests", status=status))
    with pytest.raises(kind):
        driver.pull(name)


# a8. Its tests


def test_t1_an_image_is_pulled_whole(driver: Driver, registry: FakeRegistry, name: str) -> None:
    driver.pull(name)
    assert driver.sql("SELECT reference, size_bytes > 0 FROM images") == [(name, True)]
    assert driver.sql("SELECT schema_version FROM manifests") == [(2,)]
    assert driver.sql("SELECT os FROM configs") == [("linux",)]
    for digest, size, path in driver.sql("SELECT digest, size_bytes, path FROM image_layers"):
        raw = (driver.volume / path).read_bytes()
        assert (digest_of(raw), len(raw)) == (digest, size)


def test_t2_an_index_lists_descriptors_with_platforms(
    driver: Driver, registry: FakeRegistry
) -> None:
    digest = registry.put_image("a", None, [SMALL])
    registry.put_index("a", "1", {"linux/amd64": digest})
    driver.pull(f"{registry.host}/a:1")
    ((document,),) = driver.sql("SELECT document FROM indexes")
    index = Index.from_document(document, media_type.OCI_INDEX)
    assert [(entry.size > 0, str(entry.platform)) for entry in index.manifests] == [
        (True, "linux/amd64")
    ]


def test_t3_a_manifest_names_its_config_and_layers(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    driver.pull(name)
    ((document,),) = driver.sql("SELECT document FROM manifests")
    manifest = Manifest.from_document(document, media_type.OCI_MANIFEST)
    assert manifest.is_image
    assert all(layer.size > 0 and "layer" in layer.media_type for layer in manifest.layers)


def test_t4_a_config_says_how_to_run_the_image(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [SMALL], config={"created": "2024-05-01T10:00:00.123456789Z"})
    driver.pull(f"{registry.host}/a:1")
    ((created, env, cmd, rootfs, diff_ids),) = driver.sql(
        "SELECT created::text, env, cmd, rootfs_type, diff_ids FROM configs"
    )
    assert created.startswith("2024-05-01 1")
    assert (env, cmd, rootfs, diff_ids) == (["A=b"], ["sh"], "layers", [digest_of(SMALL)])


def test_t5_a_blob_arrives_with_its_size_and_digest(registry: FakeRegistry, driver: Driver) -> None:
    reference = Reference.parse(f"{registry.host}/team/app:1")
    client = driver.resources.registry
    with client.open_blob(reference, Digest.parse(digest_of(LARGE)), len(LARGE)) as body:
        raw = b"".join(body.blocks())
    assert (len(raw), digest_of(raw)) == (len(LARGE), digest_of(LARGE))


def test_t6_a_token_is_found_by_the_registrys_own_challenge(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    driver.pull(name)
    assert registry.requests[0].status == 401
    (token,) = (registry.auth or Auth()).issued
    assert registry.requests[-1].headers["authorization"] == f"Bearer {token}"


def test_the_list_is_whole() -> None:
    """Every number from S01 to S45 and T1 to T6 stands above."""
    named = set(re.findall(r"def test_([st]\d+)_", Path(__file__).read_text()))
    assert named == {f"s{n:02}" for n in range(1, 46)} | {f"t{n}" for n in range(1, 7)}

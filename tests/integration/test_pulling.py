"""The use cases on a real PostgreSQL, a real volume and a registry on a socket."""

import base64
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import errors
from shared.catalog import pulls
from shared.catalog.pull_values import NewPull
from shared.oci.digest import Digest
from tests.driver import Driver, driving
from tests.fakes.faults import (
    Corrupt,
    Cut,
    CutAt,
    Encoded,
    ExtraBytes,
    IgnoreRange,
    Length,
    NoContentLength,
    Redirect,
    RefuseRange,
    Status,
    WrongRange,
)
from tests.fakes.registry import OCI_INDEX, Auth, FakeRegistry, digest_of
from tests.secrecy import secret
from workers.pulling.attempts import TryAgain
from workers.pulling.fetching import fetch_layer

pytestmark = pytest.mark.integration

SECRET = secret("login")
SMALL, LARGE = os.urandom(50_000), os.urandom(3_000_000)


@pytest.fixture
def driver(migrated_url: str, volume_path: Path) -> Iterator[Driver]:
    with driving(migrated_url, volume_path, stall_timeout_seconds=1) as driver:
        yield driver


def assert_whole(driver: Driver) -> None:
    """Every name under blobs/ is its bytes' digest, every stored row has its file, and back."""
    blobs = driver.blobs()
    for digest, raw in blobs.items():
        assert digest_of(raw, digest.partition(":")[0]) == digest
    stored = {row[0] for row in driver.sql("SELECT digest FROM blobs WHERE stored_at IS NOT NULL")}
    assert stored == set(blobs)


# What ends well


def test_a_pull_links_its_layers_in_manifest_order(driver: Driver, registry: FakeRegistry) -> None:
    manifest = registry.put_image("team/app", "1", [LARGE, SMALL, b"z", SMALL])
    receipt = driver.pull(f"{registry.host}/team/app:1")
    assert receipt["manifest"] == manifest
    assert [layer["digest"] for layer in receipt["layers"]] == [
        digest_of(layer) for layer in (LARGE, SMALL, b"z", SMALL)
    ]
    rows = driver.sql("SELECT position, digest, size_bytes, path FROM image_layers")
    assert [(row[0], row[1]) for row in sorted(rows)] == [
        (position, digest_of(layer)) for position, layer in enumerate((LARGE, SMALL, b"z", SMALL))
    ]
    for _, digest, size, path in rows:
        assert (driver.volume / path).stat().st_size == size
        assert path == "blobs/" + digest.replace(":", "/")
    assert_whole(driver)


def test_a_repeated_layer_is_fetched_once_and_counted_once(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL, LARGE, SMALL])
    receipt = driver.pull(f"{registry.host}/a:1")
    assert receipt["bytes_total"] == receipt["bytes_fetched"] == len(SMALL) + len(LARGE)
    assert [layer["bytes_fetched"] for layer in receipt["layers"]] == [len(SMALL), len(LARGE), 0]
    assert len(registry.asked(digest_of(SMALL))) == 1


def test_a_second_pull_fetches_no_blob(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [SMALL, LARGE])
    driver.pull(f"{registry.host}/a:1")
    asked = len(registry.requests)
    receipt = driver.pull(f"{registry.host}/a:1")
    assert [request.path for request in registry.requests[asked:]] == ["/v2/a/manifests/1"]
    assert receipt["bytes_fetched"] == 0
    assert {layer["source"] for layer in receipt["layers"]} == {"present"}
    assert driver.sql("SELECT count(*) FROM image_history") == [(1,)]


def test_if_missing_asks_the_registry_nothing(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [SMALL])
    first = driver.pull(f"{registry.host}/a:1", policy="if-missing")
    asked = len(registry.requests)
    registry.put_image("a", "1", [LARGE])
    second = driver.pull(f"{registry.host}/a:1", policy="if-missing")
    assert second["manifest"] == first["manifest"]
    assert len(registry.requests) == asked


def test_where_pulls_are_counted_a_known_tag_is_only_looked_at(
    driver: Driver, registry: FakeRegistry
) -> None:
    driver.resources.registry._counting.add(registry.host)
    name = f"{registry.host}/team/app:1"
    registry.put_image("team/app", "1", [SMALL])
    driver.pull(name)
    driver.pull(name)
    registry.put_image("team/app", "1", [LARGE])
    driver.pull(name)
    asked = [request for request in registry.requests if request.path.endswith("/manifests/1")]
    # New: asked for. Known: looked at, unchanged. Known: looked at, moved, asked for.
    assert [request.method for request in asked] == ["GET", "HEAD", "HEAD", "GET"]
    assert_whole(driver)


def test_a_moved_tag_fetches_what_changed_and_is_remembered(
    driver: Driver, registry: FakeRegistry
) -> None:
    name = f"{registry.host}/a:1"
    a = registry.put_image("a", "1", [SMALL, LARGE])
    driver.pull(name)
    b = registry.put_image("a", "1", [SMALL, b"new"])
    receipt = driver.pull(name)
    assert receipt["bytes_fetched"] == 3
    registry.put_image("a", "1", [SMALL, LARGE])
    driver.pull(name)
    history = driver.sql("SELECT manifest_digest FROM image_history ORDER BY first_seen_at")
    assert [row[0] for row in history] == [a, b, a]
    assert driver.sql("SELECT count(*) FROM image_layers") == [(2,)]


def test_an_older_resolution_that_links_later_moves_nothing_back(
    driver: Driver, registry: FakeRegistry
) -> None:
    name = f"{registry.host}/a:1"
    kwargs = {"reference": name, "platform": "linux/amd64"}
    registry.put_image("a", "1", [SMALL])
    old = driver.plan("old", kwargs)
    new = registry.put_image("a", "1", [LARGE])
    driver.pull(name)
    assert old is not None
    for digest in old.missing:
        driver.fetch("old", digest)
    driver.link("old")
    assert driver.row("old").state == "complete"
    assert driver.sql("SELECT digest FROM manifests JOIN images ON manifest_id = manifests.id") == [
        (new,)
    ]
    assert driver.sql("SELECT manifest_digest FROM image_history") == [(new,)]
    index = next((driver.volume / "images").rglob("index.json")).read_text()
    assert new in index


def test_an_index_picks_the_platform_and_skips_attestations(
    driver: Driver, registry: FakeRegistry
) -> None:
    amd64 = registry.put_image("a", None, [b"amd64"])
    arm64 = registry.put_image("a", None, [b"arm64"], platform="linux/arm64")
    attestation = registry.put_image("a", None, [b"proof"], platform="unknown/unknown")
    index = registry.put_index(
        "a",
        "1",
        {"unknown/unknown": attestation, "linux/amd64": amd64, "linux/arm64/v8": arm64},
    )
    first = driver.pull(f"{registry.host}/a:1")
    second = driver.pull(f"{registry.host}/a:1", platform="linux/arm64")
    assert (first["manifest"], second["manifest"]) == (amd64, arm64)
    assert (first["index"], second["index"]) == (index, index)
    assert len(driver.sql("SELECT 1 FROM index_manifests")) == 3
    assert len(driver.sql("SELECT 1 FROM images")) == 2


def test_a_nested_index_and_an_entry_without_platform_are_followed(
    driver: Driver, registry: FakeRegistry
) -> None:
    arm = registry.put_image("a", None, [b"arm"], platform="linux/arm64")
    amd = registry.put_image("a", None, [b"amd"])
    inner = registry.put_index(
        "a", None, [registry.descriptor("a", arm, None), registry.descriptor("a", amd, None)]
    )
    registry.put_index("a", "1", [registry.descriptor("a", inner, None)])
    assert driver.pull(f"{registry.host}/a:1")["manifest"] == amd


def test_an_index_nested_without_end_is_refused(driver: Driver, registry: FakeRegistry) -> None:
    digest = registry.put_image("a", None, [b"x"])
    for _ in range(4):
        digest = registry.put_index("a", "1", [registry.descriptor("a", digest, None)])
    with pytest.raises(errors.InvalidManifest, match="nested"):
        driver.pull(f"{registry.host}/a:1")


def test_a_digest_reference_is_pinned_and_writes_no_history(
    driver: Driver, registry: FakeRegistry
) -> None:
    digest = registry.put_image("a", None, [SMALL])
    receipt = driver.pull(f"{registry.host}/a:ignored@{digest}")
    assert receipt["manifest"] == digest
    assert registry.asked("manifests")[0].path == f"/v2/a/manifests/{digest}"
    assert driver.sql("SELECT 1 FROM image_history") == []
    assert (
        (driver.volume / "images")
        .joinpath(
            registry.host.replace(":", "_"),
            "a",
            "_digests",
            digest.replace(":", "-"),
            "linux-amd64",
        )
        .is_dir()
    )


def test_an_artifact_is_stored_like_an_image(driver: Driver, registry: FakeRegistry) -> None:
    model = registry.put_blob(LARGE)
    registry.put_manifest(
        "models/m",
        "1",
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.example.model",
            "config": {
                "mediaType": "application/vnd.oci.empty.v1+json",
                "digest": digest_of(b"{}"),
                "size": 2,
            },
            "layers": [{"mediaType": "application/x-model", "digest": model, "size": len(LARGE)}],
        },
        "application/vnd.oci.image.manifest.v1+json",
    )
    receipt = driver.pull(f"{registry.host}/models/m:1")
    assert [layer["diff_id"] for layer in receipt["layers"]] == [None]
    assert driver.blob(model).read_bytes() == LARGE
    assert_whole(driver)


def test_the_empty_blob_may_be_config_and_layer_at_once(
    driver: Driver, registry: FakeRegistry
) -> None:
    empty = {
        "mediaType": "application/vnd.oci.empty.v1+json",
        "digest": registry.put_blob(b"{}"),
        "size": 2,
    }
    artifact = {"schemaVersion": 2, "config": empty, "layers": [empty], "artifactType": "x/y"}
    registry.put_manifest("a", "1", artifact, "application/vnd.oci.image.manifest.v1+json")
    receipt = driver.pull(f"{registry.host}/a:1")
    assert receipt["layers"][0]["digest"] == receipt["config"]
    assert_whole(driver)


def test_docker_schema_2_and_sha512_layers_are_pulled(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL], docker=True, algorithm="sha512")
    receipt = driver.pull(f"{registry.host}/a:1")
    assert receipt["layers"][0]["digest"] == f"sha512:{hashlib.sha512(SMALL).hexdigest()}"
    assert_whole(driver)


def test_an_image_without_layers_and_a_zero_length_layer_are_images(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "none", [])
    registry.put_image("a", "zero", [b""])
    assert driver.pull(f"{registry.host}/a:none")["layers"] == []
    assert driver.pull(f"{registry.host}/a:zero")["layers"][0]["size"] == 0
    assert_whole(driver)


def test_a_layer_that_stands_in_its_manifest_is_not_asked_for(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("team/app", "1", [b"inside", LARGE])
    media_type, raw = registry.manifests["team/app", "1"]
    manifest = json.loads(raw)
    manifest["layers"][0]["data"] = base64.b64encode(b"inside").decode()
    registry.put_manifest("team/app", "1", manifest, media_type)
    receipt = driver.pull(f"{registry.host}/team/app:1")
    assert [layer["source"] for layer in receipt["layers"]] == ["present", "network"]
    assert receipt["bytes_fetched"] == len(LARGE)
    assert registry.asked(digest_of(b"inside")) == []
    assert driver.blobs()[digest_of(b"inside")] == b"inside"
    assert driver.sql("SELECT size_bytes FROM layers ORDER BY 1") == [(6,), (len(LARGE),)]
    assert_whole(driver)


def test_an_impossible_creation_time_is_null(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [SMALL], config={"created": "0000-99-99T99:99:99Z"})
    driver.pull(f"{registry.host}/a:1")
    assert driver.sql("SELECT created, env, volumes FROM configs") == [(None, ["A=b"], None)]


# What a registry may do without harm


def test_a_fresh_download_sends_no_range(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [LARGE])
    driver.pull(f"{registry.host}/a:1")
    assert [request.range for request in registry.asked(digest_of(LARGE))] == [None]


@pytest.mark.parametrize("reset", [False, True], ids=["clean end", "reset"])
def test_a_cut_body_is_continued_by_a_closed_range(
    driver: Driver, registry: FakeRegistry, *, reset: bool
) -> None:
    registry.put_image("a", "1", [LARGE])
    registry.fail(Cut(path=digest_of(LARGE), after_bytes=1_000_000, reset=reset, times=2))
    receipt = driver.pull(f"{registry.host}/a:1")
    ranges = [request.range for request in registry.asked(digest_of(LARGE))]
    assert len(ranges) == 3
    assert ranges[0] is None
    assert all(asked and asked.endswith(f"-{len(LARGE) - 1}") for asked in ranges[1:])
    if not reset:
        assert ranges[1:] == [f"bytes=1000000-{len(LARGE) - 1}", f"bytes=2000000-{len(LARGE) - 1}"]
        assert receipt["bytes_fetched"] == len(LARGE)
    assert driver.delays == []
    assert_whole(driver)


@pytest.mark.parametrize(
    "fault",
    [
        IgnoreRange(),
        WrongRange(shift=1),
        WrongRange(shift=-1),
        WrongRange(total=7_000_000),
        RefuseRange(status=416),
        RefuseRange(status=416, total=len(LARGE)),
        RefuseRange(status=400),
    ],
    ids=str,
)
def test_a_registry_that_cannot_do_ranges_starts_over_in_the_same_attempt(
    driver: Driver, registry: FakeRegistry, fault: IgnoreRange
) -> None:
    registry.put_image("a", "1", [LARGE])
    registry.fail(Cut(path=digest_of(LARGE), after_bytes=1_000_000, times=1), fault)
    receipt = driver.pull(f"{registry.host}/a:1")
    assert driver.delays == []
    assert receipt["layers"][0]["attempts"] == 1
    assert receipt["bytes_fetched"] == len(LARGE) + 1_000_000
    assert_whole(driver)


@pytest.mark.parametrize(
    "fault",
    [
        NoContentLength(path="blobs"),
        Status(path="blobs", times=2, status=503),
        Status(path="manifests", times=1, status=500, body=b"<html>"),
        Status(path="blobs", times=1, status=429, headers={"Retry-After": "0"}),
        Corrupt(path="blobs", times=1, byte=17),
        ExtraBytes(path="blobs", times=1),
        Length(path="blobs", times=1, length=5),
        Encoded(path="blobs", times=1),
    ],
    ids=str,
)
def test_a_passing_fault_is_survived(driver: Driver, registry: FakeRegistry, fault: Status) -> None:
    registry.put_image("a", "1", [LARGE])
    registry.fail(fault)
    driver.pull(f"{registry.host}/a:1")
    assert driver.newest().state == "complete"
    assert_whole(driver)


def test_a_redirect_never_carries_the_authorization(driver: Driver) -> None:
    auth = Auth("basic", {"ci": SECRET})
    with FakeRegistry(auth) as registry, FakeRegistry() as storage:
        config = driver.volume.parent / "registries.toml"
        config.write_text(
            f'[registries."{registry.host}"]\nusername = "ci"\npassword_env = "SECRET"\n'
        )
        os.environ["SECRET"] = SECRET
        storage.put_blob(LARGE)
        registry.put_image("a", "1", [LARGE])
        registry.fail(Redirect(path=digest_of(LARGE), host=storage.host))
        client = type(driver.resources.registry)(
            driver.resources.settings.model_copy(update={"registries_file": config})
        )
        object.__setattr__(driver.resources, "registry", client)
        driver.pull(f"{registry.host}/a:1")
    (stored,) = storage.asked("blobs")
    assert "authorization" not in stored.headers
    assert all(SECRET not in path for path in driver.blobs())
    del os.environ["SECRET"]


# What ends a pull


@pytest.mark.parametrize(
    ("fault", "kind", "tries"),
    [
        (Corrupt(path="blobs/sha256"), errors.DigestMismatch, 3),
        (ExtraBytes(path="blobs/sha256"), errors.SizeMismatch, 3),
        (Length(path="blobs/sha256", length=5), errors.SizeMismatch, 3),
        (CutAt(path="blobs/sha256", byte=10), errors.BlobTruncated, 5),
        (CutAt(path="blobs/sha256", byte=0), errors.BlobTruncated, 5),
        (Status(path="blobs/sha256", status=500), errors.RegistryUnavailable, 5),
        (Status(path="blobs/sha256", status=429), errors.RateLimited, 5),
    ],
    ids=str,
)
def test_a_lasting_fault_ends_the_pull_after_its_tries(
    driver: Driver, registry: FakeRegistry, fault: Status, kind: type[Exception], tries: int
) -> None:
    registry.put_image("a", "1", [SMALL])
    driver.plan("p", {"reference": f"{registry.host}/a:1"})
    registry.fail(fault)
    with pytest.raises(kind):
        driver.fetch("p", Digest.parse(digest_of(SMALL)))
    row = driver.row("p")
    assert (row.state, row.error_class) == ("failed", kind.__name__)
    assert row.error_message
    assert driver.layers("p")[0].attempts == row.attempts == tries
    assert sum(driver.delays) < 60
    assert digest_of(SMALL) not in driver.blobs()
    assert_whole(driver)


def test_progress_gives_the_budget_back(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [LARGE])
    driver.plan("p", {"reference": f"{registry.host}/a:1"})
    digest = Digest.parse(digest_of(LARGE))
    for reached in range(1, 9):
        registry.heal()
        registry.fail(CutAt(path="blobs", byte=reached * 300_000))
        with pytest.raises(TryAgain):
            fetch_layer(driver.resources, "p", digest, lambda _offset, _size: None, driver.outbox)
    registry.heal()
    driver.fetch("p", digest)
    assert driver.blob(digest_of(LARGE)).read_bytes() == LARGE


@pytest.mark.parametrize(
    ("kwargs", "kind"),
    [
        ({"reference": "UPPER"}, errors.InvalidReference),
        ({"reference": "a", "tag": "1"}, errors.InvalidArgument),
        ({}, errors.InvalidArgument),
        ({"reference": "a", "platform": "////"}, errors.InvalidPlatform),
        ({"reference": "HOST/a:none"}, errors.ManifestUnknown),
        ({"reference": "HOST/nobody:1"}, errors.ManifestUnknown),
        ({"reference": "HOST/a:1", "platform": "linux/s390x"}, errors.PlatformNotFound),
        ({"reference": "HOST/index:1", "platform": "linux/s390x"}, errors.PlatformNotFound),
        ({"reference": "HOST/schema1:1"}, errors.UnsupportedMediaType),
        ({"reference": "HOST/mixed:1"}, errors.InvalidManifest),
        ({"reference": "HOST/nul:1"}, errors.InvalidManifest),
        ({"reference": "HOST/counts:1"}, errors.InvalidManifest),
        ({"reference": "HOST/xxhash:1"}, errors.UnsupportedAlgorithm),
        ({"reference": "HOST/huge:1"}, errors.TooLarge),
    ],
    ids=str,
)
def test_a_permanent_error_ends_the_pull_at_once(
    driver: Driver, registry: FakeRegistry, kwargs: dict[str, str], kind: type[Exception]
) -> None:
    _put_bad_images(registry)
    asked = {**kwargs}
    if "reference" in asked:
        asked["reference"] = asked["reference"].replace("HOST", registry.host)
    with pytest.raises(kind):
        driver.plan("p", asked)
    row = driver.row("p")
    assert (row.state, row.error_class, row.attempts <= 1) == ("failed", kind.__name__, True)
    assert driver.sql("SELECT 1 FROM images") == []
    assert registry.asked("/blobs/sha256:" + "f" * 64) == []


def _put_bad_images(registry: FakeRegistry) -> None:
    digest = registry.put_image("a", "1", [SMALL])
    registry.manifests["index", digest] = registry.manifests["a", digest]
    registry.put_index("index", "1", {"linux/amd64": digest})
    oci = "application/vnd.oci.image.manifest.v1+json"
    registry.put_manifest("schema1", "1", {"schemaVersion": 1, "fsLayers": []}, "application/json")
    config = registry.put_blob(b"{}")
    whole = {
        "schemaVersion": 2,
        "mediaType": oci,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config,
            "size": 2,
        },
        "layers": [],
    }
    registry.put_manifest("mixed", "1", {**whole, "manifests": []}, oci)
    registry.put_manifest("nul", "1", {**whole, "annotations": {"a": "\0"}}, oci)
    layer = {"mediaType": "x", "digest": "sha256:" + "f" * 64, "size": 1}
    registry.put_manifest("counts", "1", {**whole, "layers": [layer]}, oci)
    registry.put_manifest("xxhash", "1", {**whole, "layers": [layer | {"digest": "xxhash:1"}]}, oci)
    registry.put_manifest("huge", "1", b" " * (4 * 1024 * 1024 + 1), oci)
    registry.put_manifest("nested", "1", {"manifests": []}, OCI_INDEX)


@pytest.mark.parametrize(
    ("status", "kind"), [(401, errors.Unauthorized), (403, errors.Forbidden)], ids=str
)
def test_refused_credentials_end_the_pull_at_once(
    driver: Driver, registry: FakeRegistry, status: int, kind: type[Exception]
) -> None:
    registry.put_image("a", "1", [SMALL])
    body = b'{"errors":[{"code":"DENIED","message":"no"}]}'
    registry.fail(Status(path="manifests", status=status, body=body))
    with pytest.raises(kind, match="DENIED"):
        driver.plan("p", {"reference": f"{registry.host}/a:1"})
    assert driver.row("p").error_code == "DENIED"
    assert len(registry.requests) == 1


def test_an_unreachable_registry_ends_the_pull_after_its_tries(driver: Driver) -> None:
    with FakeRegistry() as gone:
        host = gone.host
    with pytest.raises(errors.RegistryUnavailable, match=host):
        driver.pull(f"{host}/a:1")
    row = driver.newest()
    assert (row.state, row.attempts) == ("failed", 5)
    assert sum(driver.delays) < 60


def test_a_lying_size_fails_its_own_pull_and_nothing_else(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL])
    driver.pull(f"{registry.host}/a:1")
    media_type, raw = registry.manifests["a", "1"]
    lie = raw.replace(str(len(SMALL)).encode(), b"1")
    registry.put_manifest("liar", "1", lie, media_type)
    with pytest.raises(errors.InvalidManifest, match="promises 1 bytes"):
        driver.pull(f"{registry.host}/liar:1")
    assert driver.pull(f"{registry.host}/a:1")["bytes_fetched"] == 0
    assert driver.sql(f"SELECT size_bytes FROM layers WHERE digest = '{digest_of(SMALL)}'") == [
        (len(SMALL),)
    ]


# What may happen twice


def test_the_same_id_is_one_pull_and_its_first_arguments_win(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL])
    first = driver.pull(f"{registry.host}/a:1", pull_id="p")
    second = driver.pull("NOT/a:reference", pull_id="p", nonsense=True)
    assert first == second
    assert len(driver.sql("SELECT 1 FROM pulls")) == 1


def test_a_pull_recorded_by_our_client_gets_the_workers_platform(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL])
    with driver.resources.catalog.begin() as tx:
        pulls.record(tx, NewPull(id="p", reference=f"{registry.host}/a:1", platform=None))
    driver.plan("p", {})
    assert str(driver.row("p").platform).startswith("linux/")


def test_every_step_may_run_twice(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [SMALL, LARGE])
    kwargs = {"reference": f"{registry.host}/a:1", "platform": "linux/amd64"}
    plan = driver.plan("p", kwargs)
    assert plan is not None
    assert driver.plan("p", kwargs) is None
    assert driver.link("p") is None
    for digest in [*plan.missing, *plan.missing]:
        driver.fetch("p", digest)
    receipts = [driver.link("p") for _ in range(2)]
    assert receipts[0] == receipts[1] is not None
    assert len(registry.asked("blobs/" + digest_of(LARGE))) == 1
    assert driver.sql("SELECT count(*) FROM manifest_layers") == [(2,)]


def test_a_resumed_plan_keeps_its_manifest_though_the_tag_moves(
    driver: Driver, registry: FakeRegistry
) -> None:
    first = registry.put_image("a", "1", [SMALL])
    kwargs = {"reference": f"{registry.host}/a:1", "platform": "linux/amd64"}
    driver.plan("p", kwargs)
    registry.put_image("a", "1", [LARGE])
    assert driver.pull(pull_id="p", **kwargs)["manifest"] == first


def test_of_two_workers_that_plan_one_pull_the_first_manifest_stays(
    driver: Driver, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    kwargs = {"reference": f"{registry.host}/a:1", "platform": "linux/amd64"}
    first = registry.put_image("a", "1", [SMALL])
    ask = driver.resources.registry.manifest

    def overtaken(*arguments: object) -> object:
        """The registry's answer comes back after another worker has planned, with the old tag."""
        monkeypatch.setattr(driver.resources.registry, "manifest", ask)
        # The first one hangs: its lease has expired.
        driver.change("UPDATE step_leases SET expires_at = now() - interval '1 second'")
        driver.plan("p", kwargs)
        registry.put_image("a", "1", [LARGE])
        return ask(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(driver.resources.registry, "manifest", overtaken)
    plan = driver.plan("p", kwargs)
    assert plan is not None
    assert [str(digest) for digest in plan.missing] == [digest_of(SMALL)]
    assert driver.row("p").manifest_digest == first
    assert len(driver.layers("p")) == 1


def test_a_blob_published_without_its_row_is_adopted(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [SMALL])
    driver.blob(digest_of(SMALL)).parent.mkdir(parents=True)
    driver.blob(digest_of(SMALL)).write_bytes(SMALL)
    receipt = driver.pull(f"{registry.host}/a:1")
    assert receipt["bytes_fetched"] == 0
    assert registry.asked(digest_of(SMALL)) == []


def test_a_failed_pull_stays_failed(driver: Driver, registry: FakeRegistry) -> None:
    kwargs = {"reference": f"{registry.host}/a:1"}
    with pytest.raises(errors.ManifestUnknown):
        driver.plan("p", kwargs)
    registry.put_image("a", "1", [SMALL])
    assert driver.plan("p", kwargs) is None
    assert driver.link("p") is None
    assert driver.row("p").error_class == "ManifestUnknown"


def test_a_layer_of_another_pull_is_not_believed(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [SMALL])
    driver.plan("p", {"reference": f"{registry.host}/a:1"})
    with pytest.raises(errors.InvalidArgument, match="does not list"):
        driver.fetch("p", Digest.of(b"other"))


def test_a_chord_that_failed_does_not_fail_its_pull(driver: Driver, registry: FakeRegistry) -> None:
    registry.put_image("a", "1", [SMALL])
    asked = {"reference": f"{registry.host}/a:1", "platform": "linux/amd64"}
    assert driver.plan("p", asked) is not None
    # Its header was revoked a while ago: what is left is sent again.
    driver.change("UPDATE pull_layers SET dispatched_at = now() - interval '1 hour'")
    assert driver.plan("p", asked) is None
    assert [str(message.digest) for message in driver.outbox.layers] == [digest_of(SMALL)]
    driver.pull(pull_id="p", **asked)
    assert driver.plan("p", asked) is None


def test_an_error_nobody_foresaw_ends_the_pull_and_names_its_kind(
    driver: Driver, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.put_image("a", "1", [SMALL])
    driver.plan("p", {"reference": f"{registry.host}/a:1"})

    def broken(*_: object) -> None:
        raise ZeroDivisionError("s3cret")

    monkeypatch.setattr(driver.resources.volume, "adopt", broken)
    with pytest.raises(ZeroDivisionError):
        driver.fetch("p", Digest.parse(digest_of(SMALL)))
    row = driver.row("p")
    assert (row.state, row.error_class) == ("failed", "TowlineError")
    assert "ZeroDivisionError" in str(row.error_message)
    assert "s3cret" not in str(row.error_message)


def test_a_full_volume_keeps_every_byte_and_goes_on_later(
    driver: Driver, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.put_image("a", "1", [LARGE])
    driver.plan("p", {"reference": f"{registry.host}/a:1"})
    digest = Digest.parse(digest_of(LARGE))
    written = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if offset > 1_000_000 and len(data) > 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(descriptor, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(TryAgain) as caught:
            fetch_layer(driver.resources, "p", digest, lambda _offset, _size: None, driver.outbox)
    assert isinstance(caught.value.cause, errors.VolumeFull)
    driver.fetch("p", digest)
    assert driver.layers("p")[0].source == "resumed"
    assert driver.layers("p")[0].bytes_fetched < len(LARGE) + 2_000_000
    assert_whole(driver)

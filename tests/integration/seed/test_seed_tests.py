"""T1 to T6: the tests of the earlier program; and a check that the list is complete."""

import re
from pathlib import Path

import pytest

from shared.oci import media_type
from shared.oci.digest import Digest
from shared.oci.index import Index
from shared.oci.manifest import Manifest
from shared.oci.reference import Reference
from tests.fakes.registry import Auth, FakeRegistry, digest_of
from tests.integration.seed.broken_off import LARGE, SMALL
from tests.support.driver import Driver

pytestmark = pytest.mark.integration


def test_t1_a_whole_image_is_pulled(driver: Driver, registry: FakeRegistry, name: str) -> None:
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


def test_t5_a_blob_has_its_size_and_digest(registry: FakeRegistry, driver: Driver) -> None:
    reference = Reference.parse(f"{registry.host}/team/app:1")
    client = driver.resources.registry
    with client.open_blob(reference, Digest.parse(digest_of(LARGE)), len(LARGE)) as body:
        raw = b"".join(body.blocks())
    assert (len(raw), digest_of(raw)) == (len(LARGE), digest_of(LARGE))


def test_t6_the_registrys_challenge_leads_to_a_token(
    driver: Driver, registry: FakeRegistry, name: str
) -> None:
    driver.pull(name)
    assert registry.requests[0].status == 401
    (token,) = (registry.auth or Auth()).issued
    assert registry.requests[-1].headers["authorization"] == f"Bearer {token}"


def test_every_number_of_the_list_has_a_test() -> None:
    """The numbers S01 to S45 and T1 to T6 are all in the names of tests in this directory."""
    source = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    numbers = set(re.findall(r"def test_([st]\d+)_", source))
    assert numbers == {f"s{n:02}" for n in range(1, 46)} | {f"t{n}" for n in range(1, 7)}

"""`doctor --deep` finds every broken invariant, and changes nothing."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.images import rows as sql_rows
from tests.fakes.registry import FakeRegistry, digest_of
from tests.support.driver import Driver, driving
from workers.doctor import volume_proof
from workers.doctor.check_result import CheckResult

LAYER = os.urandom(3_000_000)
CHUNK_BYTES = 16 * 1024 * 1024


@pytest.fixture
def driver(
    migrated_url: str, volume_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Driver]:
    """A volume with one image. No worker is running, so the second check need not wait."""
    monkeypatch.setattr(volume_proof, "_SECOND_LOOK_SECONDS", 0.0)
    with FakeRegistry() as registry, driving(migrated_url, volume_path) as driver:
        registry.put_image("a", "1", [LAYER, b"small"])
        driver.pull(f"{registry.host}/a:1", "p")
        yield driver


def examine(driver: Driver) -> dict[str, CheckResult]:
    resources = driver.resources
    found = [
        *volume_proof.rows(resources.catalog, CHUNK_BYTES),
        *volume_proof.bytes_and_rows(
            resources.volume, resources.catalog, lambda _done, _total: None
        ),
    ]
    return {finding.check: finding for finding in found}


def broken(driver: Driver) -> dict[str, str]:
    return {
        name: finding.level for name, finding in examine(driver).items() if finding.level != "ok"
    }


def test_a_sound_volume_has_no_findings_and_every_byte_was_read(driver: Driver) -> None:
    reported: list[tuple[int, int]] = []
    deep_checks = volume_proof.bytes_and_rows(
        driver.resources.volume,
        driver.resources.catalog,
        lambda done, total: reported.append((done, total)),
    )
    assert {finding.level for finding in deep_checks} == {"ok"}
    total = sum(len(raw) for raw in driver.blobs().values())
    assert reported[0] == (0, total)
    assert reported[-1] == (total, total)
    assert broken(driver) == {}


def test_bytes_that_stopped_matching_their_name_are_found(driver: Driver) -> None:
    path = driver.blob(digest_of(LAYER))
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"x" if LAYER[1_000_000:1_000_001] != b"x" else b"y")
    assert broken(driver) == {"bytes": "problem"}
    assert examine(driver)["bytes"].details == (str(path.relative_to(driver.volume)),)


def test_a_row_without_its_file_is_found(driver: Driver) -> None:
    driver.blob(digest_of(LAYER)).unlink()
    assert broken(driver) == {"rows": "problem"}
    assert examine(driver)["rows"].details == (f"{digest_of(LAYER)}: no file",)


def test_a_file_of_another_size_than_its_row_is_found(driver: Driver) -> None:
    driver.change(f"UPDATE blobs SET size_bytes = 7 WHERE digest = '{digest_of(LAYER)}'")
    assert broken(driver) == {"rows": "problem"}
    assert "3,000,000 bytes instead of 7" in examine(driver)["rows"].details[0]


def test_a_file_without_a_row_is_found(driver: Driver) -> None:
    raw = b"no owner"
    driver.blob(digest_of(raw)).write_bytes(raw)
    assert broken(driver) == {"files": "warning"}
    assert "8 bytes" in examine(driver)["files"].sentence


def test_a_file_with_a_lease_is_not_reported(driver: Driver) -> None:
    raw = b"about to land"
    driver.blob(digest_of(raw)).write_bytes(raw)
    driver.change(
        "INSERT INTO leases (registry, digest, owner, fence, expires_at, bytes_total) VALUES "
        f"('h', '{digest_of(raw)}', 'host:1', 99, now() + interval '1 minute', 13)"
    )
    assert broken(driver) == {}


def test_a_file_name_that_is_not_a_digest_is_found(driver: Driver) -> None:
    (driver.volume / "blobs" / "sha256" / "notes.txt").write_text("hello")
    (driver.volume / "blobs" / "stray").write_text("hello")
    assert broken(driver) == {"files": "warning", "bytes": "problem"}


def test_a_download_without_an_owner_is_listed_with_its_bytes(driver: Driver) -> None:
    digest = digest_of(b"begun")
    directory = driver.volume / "ingest" / "sha256" / digest.partition(":")[2]
    directory.mkdir(parents=True)
    (directory / "00000000000000000001").write_bytes(b"beg")
    assert broken(driver) == {"ingests": "warning"}
    assert examine(driver)["ingests"].details[0].endswith(": 3 bytes")
    # A released lease leaves a row that says so.
    driver.change(
        "INSERT INTO leases (registry, digest, owner, fence, expires_at, bytes_total) VALUES "
        f"('h', '{digest}', NULL, 1, now(), 5)"
    )
    assert broken(driver) == {}


def test_a_layout_that_names_another_manifest_is_found(driver: Driver) -> None:
    (index,) = (driver.volume / "images").rglob("index.json")
    index.write_text("{}")
    assert broken(driver) == {"layouts": "problem"}


def test_an_image_with_a_blob_that_is_not_stored_is_found(driver: Driver) -> None:
    driver.change(f"UPDATE blobs SET stored_at = NULL WHERE digest = '{digest_of(LAYER)}'")
    found = broken(driver)
    assert found["images"] == "problem"
    assert digest_of(LAYER) in examine(driver)["images"].details[0]


def test_more_fetched_bytes_than_the_starts_explain_are_found(driver: Driver) -> None:
    driver.change(
        f"UPDATE pull_layers SET bytes_fetched = {2 * len(LAYER) + CHUNK_BYTES} "
        f"WHERE digest = '{digest_of(LAYER)}'"
    )
    assert broken(driver) == {"traffic": "warning"}
    # One more start explains one more chunk.
    driver.change("UPDATE pull_layers SET attempts = attempts + 1")
    assert broken(driver) == {}


def test_a_layer_that_was_fetched_once_counts_one_time(driver: Driver) -> None:
    assert "1.000 times" in examine(driver)["traffic"].sentence


def test_an_image_whose_claim_contradicts_the_verified_diff_id_is_found(driver: Driver) -> None:
    digest = digest_of(LAYER)
    driver.change(f"UPDATE layers SET diff_id = '{digest}' WHERE digest = '{digest}'")
    assert broken(driver) == {}
    actual = digest_of(b"something else")
    driver.change(f"UPDATE layers SET diff_id = '{actual}' WHERE digest = '{digest}'")
    assert broken(driver) == {"diff_ids": "warning"}
    (detail,) = examine(driver)["diff_ids"].details
    assert detail.endswith(f"linux/amd64 {digest}: {actual} instead of {digest}")
    # A diff_id in another algorithm does not contradict the claim.
    other = digest_of(LAYER, "sha512")
    driver.change(f"UPDATE layers SET diff_id = '{other}' WHERE digest = '{digest}'")
    assert broken(driver) == {}


def test_the_checks_change_nothing(driver: Driver) -> None:
    driver.blob(digest_of(LAYER)).unlink()
    driver.blob(digest_of(b"x")).write_bytes(b"y")

    def state() -> object:
        files = {
            path: (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in driver.volume.rglob("*")
            if path.is_file()
        }
        with driver.resources.catalog.begin() as tx:
            tables = [
                sql_rows(tx, f"SELECT ctid::text, * FROM {table}")
                for table in ("pulls", "pull_layers", "blobs", "leases", "step_leases", "images")
            ]
        return files, tables

    before = state()
    examine(driver)
    assert state() == before

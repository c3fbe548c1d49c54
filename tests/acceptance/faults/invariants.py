"""What must hold after every fault, as seen in SQL, files, the registry's log and the answers."""

import hashlib
from collections import Counter
from pathlib import Path

from tests.acceptance.faults.load import PLATFORM, Load
from tests.support.waiting import wait_until

MIB = 1024 * 1024
# What one kill may cost: the chunk that was being fetched.
CHUNK_BYTES = 16 * MIB


def check(load: Load, *, kills: int = 0) -> None:
    """Every pull is complete, and everything is as without a fault, except that one chunk may have
    been fetched twice for each of these kills.
    """
    every_pull_is_complete(load)
    every_name_hashes_to_itself(load)
    rows_and_files_agree(load)
    every_image_stands_once(load)
    every_answer_is_the_receipt(load)
    nothing_is_left_over(load)
    bytes_were_fetched_once(load, kills)


def every_pull_is_complete(load: Load) -> None:
    ends = load.fleet.sql("SELECT state, error_message FROM pulls")
    assert ends == [("complete", None)] * len(load.pulls)


def every_name_hashes_to_itself(load: Load) -> None:
    for digest, path in stored_files(load).items():
        algorithm, _, encoded = digest.partition(":")
        with path.open("rb") as file:
            assert hashlib.file_digest(file, algorithm).hexdigest() == encoded


def rows_and_files_agree(load: Load) -> None:
    rows = load.fleet.sql("SELECT digest FROM blobs WHERE stored_at IS NOT NULL")
    assert sorted(digest for (digest,) in rows) == sorted(stored_files(load))


def every_image_stands_once(load: Load) -> None:
    sql = load.fleet.sql
    pulled = {reference for (reference,) in sql("SELECT reference FROM pulls")}
    expected = Counter((reference, PLATFORM) for reference in pulled)
    assert Counter(sql("SELECT reference, platform FROM images")) == expected
    assert Counter(sql("SELECT reference, platform FROM image_history")) == expected
    listed: dict[str, list[str]] = {}
    for reference, digest in sql("SELECT reference, digest FROM image_layers"):
        listed.setdefault(reference, []).append(digest)
    for repository, digests in load.images.items():
        if load.reference(repository) in pulled:
            assert listed[load.reference(repository)] == digests


def every_answer_is_the_receipt(load: Load) -> None:
    receipts = dict(load.fleet.sql("SELECT id, receipt FROM pulls"))
    with load.fleet.client() as client:
        for pull_id in load.pulls:
            assert client.answer(pull_id) == receipts[pull_id]
    # If Redis has lost everything, pulls are answered twice: wait for the second answers.
    load.settle()


def nothing_is_left_over(load: Load) -> None:
    # A worker that has lost its lease may need a moment to notice it.
    held = "SELECT 1 FROM leases WHERE owner IS NOT NULL"
    wait_until(lambda: not load.fleet.sql(held) and not ingests_of_stored(load))


def bytes_were_fetched_once(load: Load, kills: int = 0) -> None:
    unique = load.unique_bytes()
    overlap = load.handed_out() - unique
    print(f"fetched twice: {overlap:,} of {unique:,} bytes, {kills} kills")
    assert 0 <= overlap <= kills * CHUNK_BYTES


def stored_files(load: Load) -> dict[str, Path]:
    """Every file below blobs/, by the digest that its name claims."""
    paths = (load.fleet.volume / "blobs").glob("*/*")
    return {f"{path.parent.name}:{path.name}": path for path in paths}


def ingests_of_stored(load: Load) -> list[Path]:
    """Files of downloads whose blob is stored."""
    stored = stored_files(load)
    paths = (load.fleet.volume / "ingest").glob("*/*/*")
    return [path for path in paths if f"{path.parts[-3]}:{path.parts[-2]}" in stored]

"""After a blob is stored: the pulls that waited for it are updated, and whole pulls are found."""

from collections.abc import Sequence

import pytest

from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.layers import pull_layers, storing
from shared.catalog.layers.storing import StoredLayer
from shared.catalog.pulls import finish, lifecycle
from shared.oci.digest import Digest
from tests.builders.images import of, rows, together
from tests.builders.pulls import (
    BASE,
    OTHER_HOST,
    TOP,
    fetching,
    follow,
    layer,
    list_layers,
    record,
    row,
)


def settle(tx: Connection, digest: Digest = BASE, pull_id: str = "own") -> list[str]:
    """Store the blob and settle it for the pull."""
    stored_blobs.store_layer(tx, digest, 100)
    return storing.find_whole_pulls(tx, [digest], pull_id)


def test_a_pull_that_did_not_fetch_a_layer_itself_has_joined(tx: Connection) -> None:
    fetching(tx, "own", [BASE, TOP])
    fetching(tx, "waiter", [BASE, TOP])
    pull_layers.join(tx, "waiter", BASE, "own", lifecycle.clock(tx))
    storing.store_layers(tx, [StoredLayer("own", BASE, 100, "resumed")])
    settle(tx)
    assert (layer(tx, pull_id="own").source, layer(tx, pull_id="waiter").source) == (
        "resumed",
        "joined",
    )
    assert layer(tx, pull_id="waiter").waiting_for is None
    assert layer(tx, TOP, "waiter").source is None


def test_a_layer_in_backoff_no_longer_waits_once_its_blob_is_stored(tx: Connection) -> None:
    fetching(tx, "waiter")
    pull_layers.wait(tx, "waiter", BASE, "backoff", 60, "later")
    lifecycle.show_waiting(tx, "waiter", "backoff", 60, "later")
    settle(tx)
    assert layer(tx, pull_id="waiter").not_before is None
    assert layer(tx, pull_id="waiter").waiting_for is None
    assert layer(tx, pull_id="waiter").source == "joined"


def test_one_pull_of_every_whole_image_is_returned_and_the_fetching_pull_last(
    tx: Connection,
) -> None:
    for pull_id in ("a", "own", "z"):
        fetching(tx, pull_id)
    fetching(tx, "misses the top", [BASE, TOP])
    fetching(tx, "of another layer", [TOP])
    fetching(tx, "elsewhere", registry=OTHER_HOST)
    fetching(tx, "ended")
    finish.fail(tx, "ended", "A", None, "b")
    record(tx, "waits for space")
    list_layers(tx, [BASE], "waits for space")
    assert settle(tx) == ["elsewhere", "own"]
    # A pull that is in `linking` is returned as well: a second link does no harm.
    lifecycle.start_linking(tx, "own")
    assert settle(tx, pull_id="z") == ["elsewhere", "z"]


def test_the_bytes_of_the_pull_that_fetched_a_layer_never_decrease(
    tx: Connection,
) -> None:
    fetching(tx, "own", [BASE, TOP])
    fetching(tx, "other", [BASE, of("another")])
    tx.exec_driver_sql("UPDATE pulls SET bytes_done = 150 WHERE id = 'own'")
    settle(tx)
    settle(tx, pull_id="other")
    # The bytes that were fetched of the top layer do not seem to vanish.
    assert (row(tx, "own").bytes_done, row(tx, "other").bytes_done) == (150, 100)


def test_storing_a_layer_writes_no_row_of_its_followers(tx: Connection) -> None:
    fetching(tx, "own", [BASE, TOP])
    for number in range(20):
        follow(tx, f"follower {number}", [BASE, TOP])
    before = rows(tx, "SELECT pull_id, digest, xmin, ctid FROM pull_layers ORDER BY 1, 2")
    storing.store_layers(tx, [StoredLayer("own", BASE, 100, "network")])
    storing.find_whole_pulls(tx, [BASE], "own")
    after = rows(tx, "SELECT pull_id, digest, xmin, ctid FROM pull_layers ORDER BY 1, 2")
    changed = {old[:2] for old, new in zip(before, after, strict=True) if old != new}
    assert changed == {("own", str(BASE))}
    assert layer(tx, pull_id="follower 7").source == "joined"


def test_settling_a_layer_that_no_pull_waits_for_changes_nothing(tx: Connection) -> None:
    fetching(tx, "own", [TOP])
    assert settle(tx) == []
    assert rows(tx, "SELECT count(source) FROM pull_layers") == [(0,)]


def land(catalog: Catalog, digest: Digest, whole: list[str]) -> None:
    """Commit the blob first, then settle it, as workers do."""
    with catalog.begin() as tx:
        stored_blobs.store_layer(tx, digest, 100)
    with catalog.begin() as tx:
        whole.extend(storing.find_whole_pulls(tx, [digest], "own"))


def land_all(catalog: Catalog, digests: Sequence[Digest]) -> list[str]:
    """Store the layers at once. Returns the pulls that any of the threads found whole."""
    whole: list[str] = []
    together([lambda digest=digest: land(catalog, digest, whole) for digest in digests])
    return whole


@pytest.mark.parametrize("attempt", range(5))
def test_of_layers_that_are_stored_at_once_the_last_finds_the_pulls_whole(
    catalog: Catalog, attempt: int
) -> None:
    digests = [of(f"{attempt} {number}") for number in range(4)]
    registries = [f"registry-{number}.example" for number in range(6)]
    with catalog.begin() as tx:
        for registry in registries:
            fetching(tx, registry, digests, registry=registry)
        fetching(tx, "misses one", [*digests, TOP])
    assert set(land_all(catalog, digests)) == set(registries)

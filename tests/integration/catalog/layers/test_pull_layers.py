"""The layers of a pull: which are missing, their attempts, failures and progress."""

from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.layers import fetch_state, pull_layers, storing
from shared.catalog.layers.storing import StoredLayer
from shared.catalog.model.pull_values import PlannedLayer
from shared.catalog.pulls import lifecycle
from tests.builders import images as given
from tests.builders.images import NOON
from tests.builders.leases import expire, reach
from tests.builders.pulls import BASE, HOST, TOP, layer, plan, planned, record, row


def test_a_repeated_layer_is_counted_once(tx: Connection) -> None:
    image = given.image(["base", "empty", "empty", "empty"])
    record(tx)
    plan(tx, [layer.digest for layer in image.manifest.distinct_layers])
    assert pull_layers.count_missing(tx, "p") == 2
    given.land(tx, image)
    assert pull_layers.count_missing(tx, "p") == 0


def test_a_layer_is_missing_until_it_is_stored(tx: Connection) -> None:
    planned(tx)
    stored_blobs.store_layer(tx, BASE, 100)
    assert pull_layers.count_missing(tx, "p") == 1
    assert [found.stored for found in pull_layers.of_pull(tx, "p", HOST)] == [True, False]
    stored_blobs.store_layer(tx, TOP, 100)
    assert pull_layers.count_missing(tx, "p") == 0


def test_a_pull_without_layers_has_no_missing_layers(tx: Connection) -> None:
    planned(tx, [])
    assert pull_layers.count_missing(tx, "p") == 0
    assert row(tx).bytes_total == 0


def test_only_a_byte_beyond_all_earlier_attempts_is_progress(tx: Connection) -> None:
    planned(tx)
    reached = [0, 0, 40, 40, 30, 41, 41]
    counts = [pull_layers.count_failure(tx, "p", BASE, at) for at in reached]
    assert counts == [1, 2, 1, 2, 3, 1, 2]
    assert layer(tx).failures == 2
    assert layer(tx, TOP).failures == 0


def test_attempts_and_failures_are_counted_per_pull(tx: Connection) -> None:
    planned(tx)
    record(tx, "other")
    plan(tx, pull_id="other")
    pull_layers.begin(tx, "other", BASE)
    pull_layers.count_failure(tx, "other", BASE, 0)
    assert (layer(tx).attempts, layer(tx).failures) == (0, 0)


def test_bytes_fetched_add_up_over_attempts(tx: Connection) -> None:
    planned(tx)
    for count in (30, 0, 70):
        pull_layers.add_bytes_fetched(tx, {("p", BASE): count, ("p", TOP): 1})
    storing.store_layers(tx, [StoredLayer("p", BASE, 100, "resumed")])
    assert (layer(tx).bytes_fetched, layer(tx).source) == (100, "resumed")
    assert (layer(tx, TOP).bytes_fetched, layer(tx, TOP).source) == (3, None)


def test_bytes_of_a_layer_are_those_of_the_lease_of_the_pulls_registry(tx: Connection) -> None:
    planned(tx)
    for host, done in ((HOST, 40), ("other.example", 90)):
        reach(tx, done, digest=TOP, registry=host)
    assert [found.bytes_done for found in pull_layers.of_pull(tx, "p", HOST)] == [0, 40]


def test_bytes_done_sum_up_stored_layers_and_leases(tx: Connection) -> None:
    planned(tx)
    stored_blobs.store_layer(tx, BASE, 100)
    reach(tx, 40, digest=TOP)
    lifecycle.refresh_bytes_done(tx, "p", HOST)
    assert row(tx).bytes_done == 140


def test_refreshing_bytes_done_skips_a_locked_pull(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        planned(tx)
        stored_blobs.store_layer(tx, BASE, 100)
    with catalog.begin() as holder:
        lifecycle.lock(holder, "p")
        with catalog.begin() as tx:
            lifecycle.refresh_bytes_done(tx, "p", HOST)
            assert row(tx).bytes_done == 0


def test_a_layers_urls_and_claims_are_read_back(tx: Connection) -> None:
    record(tx)
    claim = PlannedLayer(BASE, 2**62, "application/x", ("https://a.example/x",))
    lifecycle.record_plan(
        tx,
        "p",
        manifest_digest="m",
        index_digest="i",
        config_digest="c",
        resolved_at=NOON,
        layers=[claim],
    )
    found = layer(tx)
    assert (found.size_bytes, found.media_type, tuple(found.urls)) == (
        claim.size_bytes,
        claim.media_type,
        claim.urls,
    )
    state = fetch_state.load(tx, "p", TOP)
    assert state is not None
    assert state.layer is None


def test_a_stored_blob_does_not_change_the_size_that_a_pull_claims(tx: Connection) -> None:
    planned(tx)
    stored_blobs.store_layer(tx, BASE, 1)
    assert layer(tx).size_bytes == 100
    assert stored_blobs.stored(tx, [BASE]) == {BASE: 1}


def test_a_layer_shows_the_owner_and_the_pull_of_its_live_lease(tx: Connection) -> None:
    planned(tx)
    reach(tx, 40, owner="worker", pull_id="leader")
    assert (layer(tx).owner, layer(tx).leader) == ("worker", "leader")
    assert (layer(tx, TOP).owner, layer(tx, TOP).leader) == (None, None)
    expire(tx)
    assert (layer(tx).owner, layer(tx).leader, layer(tx).bytes_done) == (None, None, 40)

"""Blobs: which are on the volume, and which are expected there."""

import random

from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Catalog
from tests.builders import images as given
from tests.builders.images import of, together

DIGEST = of("layer")


def test_an_expected_blob_is_not_stored(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        stored_blobs.expect_blobs(tx, [of("a"), of("b"), of("a")])
        stored_blobs.expect_blobs(tx, [of("b"), of("c")])
        assert stored_blobs.stored(tx, [of("a"), of("b"), of("c")]) == {}
        assert given.rows(tx, "SELECT count(*), count(size_bytes) FROM blobs") == [(3, 0)]


def test_no_blobs_may_be_expected(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        stored_blobs.expect_blobs(tx, [])
        assert stored_blobs.stored(tx, []) == {}


def test_a_stored_blob_has_its_verified_size(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        stored_blobs.expect_blobs(tx, [of("a"), of("b")])
        stored_blobs.store_blobs(tx, {of("a"): 7, of("empty"): 0})
        assert stored_blobs.stored(tx, [of("a"), of("b"), of("empty")]) == {
            of("a"): 7,
            of("empty"): 0,
        }
        times = "count(*), count(stored_at), count(verified_at)"
        assert given.rows(tx, f"SELECT {times} FROM blobs") == [(3, 2, 2)]


def test_a_blob_that_is_stored_again_keeps_its_size_and_time(catalog: Catalog) -> None:
    row = "SELECT size_bytes, stored_at, verified_at FROM blobs"
    with catalog.begin() as tx:
        stored_blobs.store_blobs(tx, {DIGEST: 7})
        before = given.rows(tx, row)
    with catalog.begin() as tx:
        stored_blobs.store_blobs(tx, {DIGEST: 8})
        assert given.rows(tx, row) == before


def test_a_blob_may_have_a_sha512_digest(catalog: Catalog) -> None:
    digest = of("a").of(b"a", "sha512")
    with catalog.begin() as tx:
        stored_blobs.store_layer(tx, digest, 1)
        assert stored_blobs.stored(tx, [digest]) == {digest: 1}


def test_a_layers_diff_id_is_null_until_computed_and_never_replaced(
    catalog: Catalog,
) -> None:
    row = "SELECT size_bytes, diff_id FROM layers"
    with catalog.begin() as tx:
        stored_blobs.store_layer(tx, DIGEST, 7)
        assert given.rows(tx, row) == [(7, None)]
        stored_blobs.store_layer(tx, DIGEST, 7, of("tar"))
        assert given.rows(tx, row) == [(7, str(of("tar")))]
        stored_blobs.store_layer(tx, DIGEST, 7)
        stored_blobs.store_layer(tx, DIGEST, 7, of("another"))
        assert given.rows(tx, row) == [(7, str(of("tar")))]


def test_pulls_that_share_layers_do_not_deadlock(catalog: Catalog) -> None:
    digests = [of(f"layer {number}") for number in range(50)]

    def plan(seed: int) -> None:
        mine = random.Random(seed).sample(digests, 40)
        with catalog.begin() as tx:
            stored_blobs.expect_blobs(tx, mine)
            stored_blobs.store_blobs(tx, dict.fromkeys(mine, 1))

    together([lambda seed=seed: plan(seed) for seed in range(8)])
    with catalog.begin() as tx:
        assert len(stored_blobs.stored(tx, digests)) == 50


def test_expected_blobs_are_locked_until_the_transaction_ends(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        stored_blobs.expect_blobs(tx, [of("a"), of("b")])
    free = "SELECT digest FROM blobs FOR UPDATE SKIP LOCKED"
    with catalog.begin() as tx:
        stored_blobs.expect_blobs(tx, [of("a")])
        with catalog.begin() as other:
            assert given.rows(other, free) == [(str(of("b")),)]

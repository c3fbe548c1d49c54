"""Blobs and leases: what is on the volume, and who is at work on the rest."""

import random

import pytest

from shared.catalog import blobs, leases
from shared.catalog.database import Catalog, Connection
from tests.integration.catalog import given
from tests.integration.catalog.given import of, together

pytestmark = pytest.mark.integration

HOST, DIGEST = "registry.example", of("layer")


def test_an_expected_blob_is_not_stored(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        blobs.expect_blobs(tx, [of("a"), of("b"), of("a")])
        blobs.expect_blobs(tx, [of("b"), of("c")])
        assert blobs.stored(tx, [of("a"), of("b"), of("c")]) == {}
        assert given.rows(tx, "SELECT count(*), count(size_bytes) FROM blobs") == [(3, 0)]


def test_nothing_expected_asks_nothing(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        blobs.expect_blobs(tx, [])
        assert blobs.stored(tx, []) == {}


def test_a_stored_blob_tells_its_verified_size(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        blobs.expect_blobs(tx, [of("a"), of("b")])
        blobs.store_blobs(tx, {of("a"): 7, of("empty"): 0})
        assert blobs.stored(tx, [of("a"), of("b"), of("empty")]) == {of("a"): 7, of("empty"): 0}
        times = "count(*), count(stored_at), count(verified_at)"
        assert given.rows(tx, f"SELECT {times} FROM blobs") == [(3, 2, 2)]


def test_what_is_stored_keeps_its_size_and_time(catalog: Catalog) -> None:
    row = "SELECT size_bytes, stored_at, verified_at FROM blobs"
    with catalog.begin() as tx:
        blobs.store_blobs(tx, {DIGEST: 7})
        before = given.rows(tx, row)
    with catalog.begin() as tx:
        blobs.store_blobs(tx, {DIGEST: 8})
        assert given.rows(tx, row) == before


def test_sha512_blobs_are_blobs(catalog: Catalog) -> None:
    digest = of("a").of(b"a", "sha512")
    with catalog.begin() as tx:
        blobs.store_layer(tx, digest, 1)
        assert blobs.stored(tx, [digest]) == {digest: 1}


def test_a_layers_diff_id_is_null_until_it_was_verified_and_never_replaced(
    catalog: Catalog,
) -> None:
    row = "SELECT size_bytes, diff_id FROM layers"
    with catalog.begin() as tx:
        blobs.store_layer(tx, DIGEST, 7)
        assert given.rows(tx, row) == [(7, None)]
        blobs.store_layer(tx, DIGEST, 7, of("tar"))
        assert given.rows(tx, row) == [(7, str(of("tar")))]
        blobs.store_layer(tx, DIGEST, 7)
        blobs.store_layer(tx, DIGEST, 7, of("another"))
        assert given.rows(tx, row) == [(7, str(of("tar")))]


def test_pulls_that_share_layers_do_not_deadlock(catalog: Catalog) -> None:
    digests = [of(f"layer {number}") for number in range(50)]

    def plan(seed: int) -> None:
        mine = random.Random(seed).sample(digests, 40)
        with catalog.begin() as tx:
            blobs.expect_blobs(tx, mine)
            blobs.store_blobs(tx, dict.fromkeys(mine, 1))

    together([lambda seed=seed: plan(seed) for seed in range(8)])
    with catalog.begin() as tx:
        assert len(blobs.stored(tx, digests)) == 50


def test_expected_blobs_are_locked_until_the_end(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        blobs.expect_blobs(tx, [of("a"), of("b")])
    free = "SELECT digest FROM blobs FOR UPDATE SKIP LOCKED"
    with catalog.begin() as tx:
        blobs.expect_blobs(tx, [of("a")])
        with catalog.begin() as other:
            assert given.rows(other, free) == [(str(of("b")),)]


# Leases


def begin(tx: Connection, owner: str, host: str = HOST) -> int:
    return leases.begin(tx, host, DIGEST, owner, 100, 30)


def test_each_beginning_has_a_higher_fence(catalog: Catalog) -> None:
    fences: list[int] = []

    def work() -> None:
        with catalog.begin() as tx:
            fences.append(begin(tx, "me"))

    together([work] * 8)
    assert len(set(fences)) == 8
    with catalog.begin() as tx:
        assert begin(tx, "last") > max(fences)
        assert given.rows(tx, "SELECT count(*) FROM leases") == [(1,)]


def test_who_was_overtaken_is_told_and_changes_nothing(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        old = begin(tx, "old")
        new = begin(tx, "new")
        assert leases.report(tx, HOST, DIGEST, new, 60, 30)
        assert not leases.report(tx, HOST, DIGEST, old, 90, 30)
        leases.end(tx, HOST, DIGEST, old)
        assert given.rows(tx, "SELECT owner, fence, bytes_done FROM leases") == [("new", new, 60)]


def test_a_report_renews_the_lease_by_the_databases_clock(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        fence = begin(tx, "me")
        tx.exec_driver_sql("UPDATE leases SET expires_at = now() - interval '1 hour'")
        assert leases.report(tx, HOST, DIGEST, fence, 1, 30)
        alive = "expires_at > clock_timestamp(), expires_at < clock_timestamp() + interval '31 s'"
        assert given.rows(tx, f"SELECT {alive} FROM leases") == [(True, True)]


def test_an_ended_lease_is_gone_and_cannot_be_renewed(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        fence = begin(tx, "me")
        leases.end(tx, HOST, DIGEST, fence)
        assert not leases.report(tx, HOST, DIGEST, fence, 1, 30)
        assert given.rows(tx, "SELECT count(*) FROM leases") == [(0,)]


def test_a_digest_from_two_registries_has_two_leases(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        first, second = begin(tx, "a"), begin(tx, "b", "other.example")
        assert leases.report(tx, HOST, DIGEST, first, 1, 30)
        assert leases.report(tx, "other.example", DIGEST, second, 1, 30)

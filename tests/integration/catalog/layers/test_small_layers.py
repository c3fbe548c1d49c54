"""Small layers that are begun together with another layer of the same pull."""

import pytest

from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.fleet import fleet_slots
from shared.catalog.layers import leases, pull_layers, small_layers
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.layers.small_layers import SMALL_BYTES
from shared.oci.digest import Digest
from tests.builders.images import of, rows, together
from tests.builders.leases import taken
from tests.builders.pulls import HOST, OTHER_HOST, change, fetching, layer

LAYERS = [of(f"layer {number:02}") for number in range(12)]
FIRST, LAST = LAYERS[0], LAYERS[-1]


@pytest.fixture
def slots(tx: Connection) -> None:
    fleet_slots.count_slots(tx, 4, 4)


def take(
    tx: Connection, digest: Digest = FIRST, pull_id: str = "p", *, reserved_slots: int = 0
) -> list[tuple[PullLayer, int]]:
    return small_layers.take(
        tx, pull_id, digest, owner="me", lease_seconds=30, reserved_slots=reserved_slots
    )


def digests(found: list[tuple[PullLayer, int]]) -> list[Digest]:
    return [begun.digest for begun, _fence in found]


@pytest.mark.usefixtures("slots")
def test_a_layer_is_begun_with_its_share_of_the_last_layers(tx: Connection) -> None:
    fetching(tx, "p", LAYERS)
    found = take(tx)
    assert digests(found)[0] == FIRST
    assert set(digests(found)[1:]) == set(LAYERS[-2:])
    assert rows(
        tx, "SELECT digest, owner, pull_id, bytes_total, is_companion FROM leases ORDER BY 1"
    ) == sorted((str(digest), "me", "p", 100, digest != FIRST) for digest in digests(found))
    assert {fence for _begun, fence in found} == {
        fence for (fence,) in rows(tx, "SELECT fence FROM leases")
    }
    assert [layer(tx, digest).attempts for digest in (FIRST, LAST, LAYERS[1])] == [1, 1, 0]


@pytest.mark.usefixtures("slots")
def test_every_slot_takes_the_same_number_until_no_layer_is_left(tx: Connection) -> None:
    fetching(tx, "p", LAYERS)
    shares = [take(tx, digest) for digest in LAYERS[:4]]
    assert [len(share) for share in shares] == [3, 3, 3, 3]
    assert {digest for share in shares for digest in digests(share)} == set(LAYERS)
    assert take(tx, LAST) == []


@pytest.mark.usefixtures("slots")
@pytest.mark.parametrize(("reserved_slots", "share"), [(0, 3), (1, 4), (2, 6), (3, 12), (4, 12)])
def test_reserved_slots_do_not_count_in_the_share(
    tx: Connection, reserved_slots: int, share: int
) -> None:
    fetching(tx, "p", LAYERS)
    assert len(take(tx, reserved_slots=reserved_slots)) == share


@pytest.mark.usefixtures("slots")
def test_a_pull_with_a_slot_for_each_layer_has_no_companions(tx: Connection) -> None:
    fetching(tx, "p", LAYERS[:4])
    assert take(tx) == []
    assert rows(tx, "SELECT count(*) FROM leases") == [(0,)]
    assert layer(tx, FIRST).attempts == 0


@pytest.mark.parametrize("counted", [None, 0])
def test_there_are_no_companions_before_the_slots_are_counted(
    tx: Connection, counted: int | None
) -> None:
    fleet_slots.count_slots(tx, counted, None)
    fetching(tx, "p", LAYERS)
    assert take(tx) == []


@pytest.mark.usefixtures("slots")
def test_at_most_sixteen_layers_are_begun_together(tx: Connection) -> None:
    many = [of(f"one of many {number}") for number in range(200)]
    fetching(tx, "p", many)
    assert len(take(tx, many[0])) == 16


@pytest.mark.usefixtures("slots")
def test_only_small_layers_that_were_never_tried_are_companions(tx: Connection) -> None:
    fetching(tx, "p", LAYERS)
    large, tried, waits, stored, held, elsewhere = LAYERS[-6:]
    update = "UPDATE pull_layers SET {} WHERE digest = '{}'"
    tx.exec_driver_sql(update.format(f"size_bytes = {SMALL_BYTES + 1}", large))
    tx.exec_driver_sql(update.format("attempts = 1", tried))
    pull_layers.wait(tx, "p", waits, "backoff", 60, "later")
    stored_blobs.store_layer(tx, stored, 100)
    fence = taken(tx, digest=held).fence
    leases.release(tx, HOST, held, fence, 50)
    taken(tx, digest=elsewhere, registry=OTHER_HOST)
    assert set(digests(take(tx, reserved_slots=3))) == set(LAYERS[:6])


@pytest.mark.usefixtures("slots")
def test_layers_that_wait_for_a_slot_are_taken_first(tx: Connection) -> None:
    fetching(tx, "p", LAYERS)
    pull_layers.wait(tx, "p", LAYERS[2], "turn", 60, "no slot")
    assert LAYERS[2] in digests(take(tx))
    assert (layer(tx, LAYERS[2]).waiting_for, layer(tx, LAYERS[2]).not_before) == (None, None)


@pytest.mark.usefixtures("slots")
@pytest.mark.parametrize("registry", [HOST, OTHER_HOST])
def test_a_layer_that_has_had_a_lease_is_begun_alone(tx: Connection, registry: str) -> None:
    fetching(tx, "p", LAYERS)
    leases.release(tx, registry, FIRST, taken(tx, digest=FIRST, registry=registry).fence, 0)
    assert take(tx) == []


@pytest.mark.usefixtures("slots")
def test_a_pull_that_has_ended_has_no_companions(tx: Connection) -> None:
    fetching(tx, "p", LAYERS)
    change(tx, "p", "state = 'cancelled'")
    assert take(tx) == []


def test_pulls_of_the_same_layers_begin_each_layer_once_without_waiting(catalog: Catalog) -> None:
    pulls = [f"p{number}" for number in range(4)]
    with catalog.begin() as tx:
        fleet_slots.count_slots(tx, 4, 4)
        for pull_id in pulls:
            fetching(tx, pull_id, LAYERS)
    began: list[Digest] = []

    def work(number: int) -> None:
        with catalog.begin() as tx:
            found = take(tx, LAYERS[number], pulls[number % 4])
        began.extend(digests(found))

    together([lambda number=number: work(number) for number in range(12)])
    assert len(began) == len(set(began))
    with catalog.begin() as tx:
        held = {Digest.parse(digest) for (digest,) in rows(tx, "SELECT digest FROM leases")}
    assert held == set(began)

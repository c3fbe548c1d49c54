"""What `towline explain`, `watch` and `history` read from a real catalog."""

import pytest

from shared.catalog.admission import admission, pauses, waiting_reasons
from shared.catalog.content import tag_history
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.fleet import fleet_slots, step_leases
from shared.catalog.pulls import finish, lifecycle, listings
from shared.catalog.reports import overview, queue_position
from shared.errors import InvalidArgument
from tests.builders import images as given
from tests.builders.images import TAG, hour
from tests.builders.leases import expire, reach
from tests.builders.pulls import BASE, TOP, change, fetching, record
from workers.doctor.download_speeds import measure
from workers.doctor.explanation import explain
from workers.doctor.pull_snapshot import read_snapshot

pytestmark = pytest.mark.integration


def why_refreshed(tx: Connection, pull_id: str, *, no_layer_worker: bool = False) -> None:
    waiting_reasons.refresh(tx, [pull_id], no_pull_worker=False, no_layer_worker=no_layer_worker)


def test_the_place_of_a_waiting_pull_is_its_place_in_the_order_of_admission(
    catalog: Catalog,
) -> None:
    with catalog.begin() as tx:
        fleet_slots.count_slots(tx, 4, 4)
        for number in range(12):
            record(tx, f"flood-{number}", age_minutes=60 - number, requested_by="flood")
        for number in range(6):
            record(tx, f"quiet-{number}", age_minutes=30 - number, requested_by="quiet")
        for number in range(3):
            record(tx, f"first-{number}", age_minutes=number, priority=7)
        ids = [pull.id for pull in listings.open_pulls(tx, 100)]
        places = {pull_id: queue_position.place(tx, pull_id) for pull_id in ids}
    assert all(place is not None and place.waiting == 21 for place in places.values())
    before = {pull_id: place.before for pull_id, place in places.items() if place}
    assert sorted(before.values()) == list(range(21))
    with catalog.begin() as tx:
        chosen = [pull.pull_id for pull in admission.admit(tx)]
    assert len(chosen) == 16
    assert {before[pull_id] for pull_id in chosen} == set(range(16))


def test_a_pull_that_is_admitted_or_paused_has_no_place(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        fetching(tx, "a")
        record(tx, "b")
        pauses.pause(tx, "fleet")
        assert queue_position.place(tx, "a") is None
        assert queue_position.place(tx, "b") is None


def test_a_pull_that_joined_is_explained_by_the_pull_that_fetches(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        fetching(tx, "leader", [BASE], requested_by="ci")
        fetching(tx, "p", [BASE, TOP])
        reach(tx, 60, owner="host:77", pull_id="leader")
    explained = explain(read_snapshot(catalog, "p"))
    causes = {str(layer.layer.digest): layer.reason for layer in explained.layers}
    assert causes[str(BASE)].pull_id == "leader"
    assert "host:77" in causes[str(BASE)].sentence
    assert causes[str(TOP)].cause == "turn"
    leader = explain(read_snapshot(catalog, "leader"))
    assert leader.reason.cause is None
    assert leader.layers[0].layer.owner == "host:77"
    assert leader.layers[0].layer.bytes_done == 60


def test_an_expired_lease_is_not_shown_as_a_running_download(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        fetching(tx, "p")
        reach(tx, 60, owner="host:77")
        expire(tx)
        why_refreshed(tx, "p")
    explained = explain(read_snapshot(catalog, "p"))
    assert explained.reason.cause == "turn"
    assert explained.layers[0].layer.owner is None


def test_the_reason_that_the_reconciler_keeps_is_the_one_that_is_explained(
    catalog: Catalog,
) -> None:
    with catalog.begin() as tx:
        fetching(tx, "p")
        why_refreshed(tx, "p", no_layer_worker=True)
    explained = explain(read_snapshot(catalog, "p"))
    assert (explained.reason.cause, explained.reason.sentence) == (
        "no_worker",
        "no worker consumes towline.layers",
    )
    assert "-Q towline.layers" in explained.remedies[0]
    with catalog.begin() as tx:
        pauses.pause(tx, "requester", "")
        why_refreshed(tx, "p")
    explained = explain(read_snapshot(catalog, "p"))
    assert explained.reason.cause == "paused"
    assert explained.remedies[0] == "run `towline resume --requester ''`"


def test_the_worker_that_resolves_and_the_leading_reconciler_are_seen(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        record(tx, "p")
        change(tx, "p", "state = 'resolving', started_at = now(), admitted_at = now()")
        step_leases.take(tx, step_leases.of_pull("p"), "host:8", 30)
        step_leases.take(tx, step_leases.RECONCILER, "host:9", 30)
    found = read_snapshot(catalog, "p")
    assert found.reconciler == "host:9"
    assert explain(found).reason.sentence == "host:8 is resolving the reference"


def test_an_unknown_pull_names_the_command_that_lists_them(catalog: Catalog) -> None:
    with pytest.raises(InvalidArgument, match="towline status"):
        read_snapshot(catalog, "nothing")


def test_nothing_is_measured_where_nothing_moves(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        fetching(tx, "p")
    assert measure(catalog, "p") == {}


def test_the_fleet_is_counted_by_state_with_its_downloads(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        began = lifecycle.clock(tx)
        fetching(tx, "a", [BASE])
        fetching(tx, "b", [TOP])
        record(tx, "c")
        record(tx, "d")
        fence = reach(tx, 30, pull_id="a")
        finish.cancel(tx, "d", "gone")
    with catalog.begin() as tx:
        view = overview.of_fleet(tx)
        assert view.states == {"fetching": 2, "queued": 1}
        assert view.open == 3
        assert view.downloads == {fence: 30}
        assert [pull.id for pull in overview.ended_after(tx, began, 10)] == ["d"]
        assert overview.ended_after(tx, lifecycle.clock(tx), 10) == []


def test_the_history_of_a_tag_is_newest_first_and_by_platform(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        one, two = given.image(["a"]), given.image(["b"])
        given.link(tx, one, at=hour(1))
        given.link(tx, two, at=hour(2))
        given.link(tx, one, at=hour(3))
        given.link(tx, one, at=hour(1), platform="linux/arm64")
        rows = tag_history.of_reference(tx, TAG, "linux/amd64")
        assert [row.manifest_digest for row in rows] == [
            str(one.digest),
            str(two.digest),
            str(one.digest),
        ]
        assert rows[0].first_seen_at == hour(3)
        assert len(tag_history.of_reference(tx, TAG)) == 4
        assert tag_history.of_reference(tx, "registry.example/none:1") == []

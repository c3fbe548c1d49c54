"""What `towline explain`, `watch` and `history` read from a real catalog."""

import pytest

from shared.catalog.admission import admission, pauses
from shared.catalog.content import tag_history
from shared.catalog.database.catalog import Catalog
from shared.catalog.fleet import fleet_slots, step_leases
from shared.catalog.pulls import finish, lifecycle, listings
from shared.catalog.reports import overview, queue_position
from shared.errors import InvalidArgument
from tests.integration.catalog import given
from tests.integration.catalog.given import TAG, hour
from tests.integration.catalog.given_leases import expire, reach
from tests.integration.catalog.given_pulls import BASE, TOP, change, fetching, record
from workers.doctor.estimates import measure
from workers.doctor.explanation import explain
from workers.doctor.facts import read_facts

pytestmark = pytest.mark.integration


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
    story = explain(read_facts(catalog, "p"))
    causes = {str(layer.layer.digest): layer.reason for layer in story.layers}
    assert causes[str(BASE)].pull_id == "leader"
    assert "host:77" in causes[str(BASE)].sentence
    assert causes[str(TOP)].cause == "turn"
    leader = explain(read_facts(catalog, "leader"))
    assert leader.reason.cause is None
    assert leader.layers[0].owner == "host:77"
    assert leader.layers[0].layer.bytes_done == 60


def test_an_expired_lease_is_not_shown_as_a_running_download(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        fetching(tx, "p")
        reach(tx, 60, owner="host:77")
        expire(tx)
    assert "the lease of host:77 expired" in explain(read_facts(catalog, "p")).reason.sentence


def test_the_worker_that_resolves_and_the_leading_reconciler_are_seen(catalog: Catalog) -> None:
    with catalog.begin() as tx:
        record(tx, "p")
        change(tx, "p", "state = 'resolving', started_at = now(), admitted_at = now()")
        step_leases.take(tx, step_leases.of_pull("p"), "host:8", 30)
        step_leases.take(tx, step_leases.RECONCILER, "host:9", 30)
    facts = read_facts(catalog, "p")
    assert facts.leader is not None
    assert facts.leader.alive
    assert explain(facts).reason.sentence == "host:8 is resolving the reference"


def test_an_unknown_pull_names_the_command_that_lists_them(catalog: Catalog) -> None:
    with pytest.raises(InvalidArgument, match="towline status"):
        read_facts(catalog, "nothing")


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

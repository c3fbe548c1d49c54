"""Whether a download should go on, and for which pull."""

from shared.catalog.admission import pauses
from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Connection
from shared.catalog.layers import wanted_downloads
from shared.catalog.layers.wanted_downloads import Verdict
from shared.catalog.pulls import finish
from tests.builders.images import of
from tests.builders.pulls import BASE, HOST, OTHER_HOST, TOP, fetching, list_layers, record


def wanted(tx: Connection, pull_id: str = "own") -> Verdict:
    """Whether the download of the base layer for this pull should go on."""
    (verdict,) = wanted_downloads.judge_downloads(tx, [(HOST, BASE, 7, pull_id)])
    return verdict


def test_a_download_goes_on_for_its_own_pull_then_for_the_best_other_pull(tx: Connection) -> None:
    fetching(tx, "own", priority=0)
    fetching(tx, "urgent", priority=9)
    fetching(tx, "old", age_minutes=9)
    fetching(tx, "young")
    for best in ("own", "urgent", "old", "young"):
        assert wanted(tx) == Verdict(7, best, paused=False, stored=False)
        finish.cancel(tx, best, "Enough.")
    assert wanted(tx) == Verdict(7, None, paused=False, stored=False)


def test_pulls_of_other_registries_and_layers_do_not_want_it(tx: Connection) -> None:
    fetching(tx, "elsewhere", registry=OTHER_HOST)
    fetching(tx, "of another layer", [TOP])
    assert wanted(tx).pull_id is None


def test_a_pull_that_waits_for_space_wants_its_layers(tx: Connection) -> None:
    record(tx, "waits for space")
    list_layers(tx, [BASE], "waits for space")
    assert wanted(tx).pull_id == "waits for space"


def test_a_download_is_paused_only_if_all_pulls_that_want_it_are(tx: Connection) -> None:
    fetching(tx, "own", priority=9, requested_by="ci")
    fetching(tx, "other")
    pauses.pause(tx, "requester", "ci")
    assert wanted(tx) == Verdict(7, "other", paused=False, stored=False)
    pauses.pause(tx, "requester", "")
    assert wanted(tx) == Verdict(7, "own", paused=True, stored=False)


def test_a_pause_of_the_registry_or_the_fleet_pauses_the_download(tx: Connection) -> None:
    fetching(tx, "own")
    for scope, name in (("fleet", ""), ("registry", HOST)):
        pauses.pause(tx, scope, name)
        assert wanted(tx).paused
        pauses.resume(tx, scope, name)
    pauses.pause(tx, "registry", OTHER_HOST)
    assert not wanted(tx).paused


def test_a_blob_that_another_worker_stored_is_reported_as_stored(tx: Connection) -> None:
    fetching(tx, "own")
    stored_blobs.store_layer(tx, BASE, 100)
    assert wanted(tx) == Verdict(7, "own", paused=False, stored=True)


def test_every_download_has_its_own_verdict(tx: Connection) -> None:
    fetching(tx, "a", [BASE, TOP])
    fetching(tx, "b", [BASE], registry=OTHER_HOST)
    stored_blobs.store_layer(tx, TOP, 100)
    held = [
        (HOST, BASE, 1, "a"),
        (HOST, TOP, 2, "a"),
        (OTHER_HOST, BASE, 3, "b"),
        (HOST, of("unwanted"), 4, "a"),
    ]
    assert sorted(
        wanted_downloads.judge_downloads(tx, held), key=lambda verdict: verdict.fence
    ) == [
        Verdict(1, "a", paused=False, stored=False),
        Verdict(2, "a", paused=False, stored=True),
        Verdict(3, "b", paused=False, stored=False),
        Verdict(4, None, paused=False, stored=False),
    ]

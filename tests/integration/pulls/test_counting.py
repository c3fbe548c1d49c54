"""How received bytes are counted: for the receipt, and for the progress of a pull."""

import threading

import pytest

from shared.oci.digest import Digest
from shared.oci.reference import Reference
from shared.pulls.layers.leased_layer import LeasedLayer
from shared.pulls.steps.outcomes import TryAgain
from tests.fakes.faults import CutAt
from tests.fakes.registry import FakeRegistry, digest_of
from tests.integration.pulls.meeting import LAYER, Meeting
from tests.integration.pulls.wholeness import LARGE, SMALL
from tests.support.driver import Driver
from tests.support.waiting import wait_until

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


def test_bytes_that_two_threads_count_at_once_are_counted_once(
    first: Driver, meeting: Meeting
) -> None:
    meeting.plan("p")
    record = first.resources.renewer.fetched_bytes.record
    reference = Reference.parse(first.row("p").reference)
    leased = LeasedLayer(reference, first.layers("p")[0], fence=1, pull_id="p")
    leased.progress.received(len(LAYER))
    both = [threading.Thread(target=record, args=([leased],)) for _ in range(2)]
    with first.resources.catalog.begin() as tx:
        tx.exec_driver_sql("SELECT FROM pull_layers FOR UPDATE")
        both[0].start()
        wait_until(lambda: first.sql(WAITING) == [(1,)])
        both[1].start()
    for thread in both:
        thread.join()
    assert first.layers("p")[0].bytes_fetched == len(LAYER)


def test_progress_counts_the_layers_that_were_there_before(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "old", [SMALL])
    registry.put_image("a", "new", [SMALL, LARGE])
    driver.pull(f"{registry.host}/a:old")
    driver.plan("p", {"reference": f"{registry.host}/a:new", "platform": "linux/amd64"})
    assert {layer.bytes_done for layer in driver.layers("p")} == {0, len(SMALL)}
    driver.fetch("p", Digest.parse(digest_of(LARGE)))
    assert driver.row("p").bytes_done == len(SMALL) + len(LARGE)


def test_a_layer_shows_the_bytes_of_its_interrupted_download(
    driver: Driver, registry: FakeRegistry
) -> None:
    registry.put_image("a", "1", [LARGE])
    driver.plan("p", {"reference": f"{registry.host}/a:1", "platform": "linux/amd64"})
    registry.fail(CutAt(path=digest_of(LARGE), byte=1_000_000))
    with pytest.raises(TryAgain):
        driver.fetch_once("p", Digest.parse(digest_of(LARGE)))
    assert driver.layers("p")[0].bytes_done == 1_000_000

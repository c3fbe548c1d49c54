"""How received bytes are counted for the receipt."""

import threading

import pytest

from shared.oci.reference import Reference
from shared.pulls.layers.leased_layer import LeasedLayer
from tests.driver import Driver
from tests.integration.pulls.meeting import LAYER, Meeting
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

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

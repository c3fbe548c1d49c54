"""How received bytes are counted for the receipt."""

import threading

import pytest

from shared.download.progress import Progress
from shared.pulls.layers.bytes_fetched import Transfer
from tests.driver import Driver
from tests.integration.pulls.meeting import DIGEST, LAYER, Meeting
from tests.waiting import wait_until

pytestmark = pytest.mark.integration

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


def test_bytes_that_two_threads_count_at_once_are_counted_once(
    first: Driver, meeting: Meeting
) -> None:
    meeting.plan("p")
    keeper = first.resources.renewer
    transfer = Transfer(meeting.registry.host, DIGEST, 1, "p", Progress())
    transfer.progress.received(len(LAYER))
    both = [
        threading.Thread(target=keeper.fetched_bytes.count, args=([transfer],)) for _ in range(2)
    ]
    with first.resources.catalog.begin() as tx:
        tx.exec_driver_sql("SELECT FROM pull_layers FOR UPDATE")
        both[0].start()
        wait_until(lambda: first.sql(WAITING) == [(1,)])
        both[1].start()
    for thread in both:
        thread.join()
    assert first.layers("p")[0].bytes_fetched == len(LAYER)

"""A registry that answers 429 holds the whole fleet back: it gets no further requests."""

import os

import redis

from tests.acceptance.fleet import Fleet
from tests.fakes.faults import Status
from tests.fakes.registry import FakeRegistry
from tests.support.waiting import wait_until

PULLS, WORKERS, SLOTS = 12, 2, 4
CAUSES = "SELECT DISTINCT waiting_for ->> 'cause' FROM pulls"
UNTIL = "SELECT min((waiting_for ->> 'until')::timestamptz) > now() FROM pulls"
STATES = "SELECT state, count(*)::int FROM pulls GROUP BY 1"


def test_all_workers_wait_for_a_registry_that_has_refused_one_of_them(
    fleet: Fleet, registry: FakeRegistry
) -> None:
    for number in range(PULLS):
        registry.put_image(f"app-{number}", "1", [os.urandom(50_000)])
    registry.fail(Status(path="/v2/", status=429, headers={"Retry-After": "3"}))
    # Two workers stand for two nodes, which share nothing but the database and Redis either.
    for _ in range(WORKERS):
        fleet.start_worker("threads")
    board = redis.Redis.from_url(fleet.redis_url, decode_responses=True)
    with board, fleet.client() as client:
        pulls = [
            client.pull(reference=f"{registry.host}/app-{number}:1", platform="linux/amd64")
            for number in range(PULLS)
        ]
        wait_until(lambda: fleet.sql(STATES) and fleet.sql(CAUSES) == [("rate_limit",)], 20)
        assert fleet.sql(UNTIL) == [(True,)]
        # The requests that were on their way at the first refusal. After that the whole fleet sends
        # one request each time the registry's time to wait is over.
        wait_until(lambda: int(board.hget(f"towline:registry:{registry.host}", "holds") or 0) >= 3)
        refused = len(registry.requests)
        holds = int(board.hget(f"towline:registry:{registry.host}", "holds") or 0)
        assert refused <= WORKERS * SLOTS + holds
        registry.heal()
        receipts = [pull.get(timeout=30) for pull in pulls]
    assert [receipt["bytes_fetched"] for receipt in receipts] == [50_000] * PULLS
    assert fleet.sql(STATES) == [("complete", PULLS)]
    # Pulls that were held back have not used up a try.
    assert fleet.sql("SELECT count(*) FROM pulls WHERE failures > 2") == [(0,)]

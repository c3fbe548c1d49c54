"""A pull in the middle of a layer that other pulls want as well."""

import os
import threading
from dataclasses import dataclass, field

from shared.oci.digest import Digest
from tests.fakes.registry import FakeRegistry, digest_of
from tests.support.driver import Driver
from tests.support.waiting import wait_until

LAYER = os.urandom(4_000_000)
DIGEST = Digest.parse(digest_of(LAYER))


@dataclass
class Meeting:
    """`begin()` starts the pull `leader`; `hold.set()` ends the registry's silence."""

    driver: Driver
    registry: FakeRegistry
    hold: threading.Event
    raised: list[BaseException] = field(default_factory=list)
    thread: threading.Thread | None = None

    def plan(self, pull_id: str, repository: str = "a", **more: object) -> None:
        """Record a pull and plan it."""
        asked = {"reference": f"{self.registry.host}/{repository}:1", "platform": "linux/amd64"}
        plan = self.driver.plan(pull_id, {**asked, **more})
        assert plan is not None

    def begin(self, repository: str = "a", **more: object) -> None:
        """Let the leader fetch half of the layer and then wait for the registry."""
        self.plan("leader", repository, **more)
        self.thread = threading.Thread(target=self._fetch)
        self.thread.start()
        wait_until(lambda: self.lease("bytes_done") == len(LAYER) // 2)

    def lease(self, column: str) -> object:
        """A column of the layer's lease; None without a lease."""
        rows = self.driver.sql(f"SELECT {column} FROM leases")
        return rows[0][0] if rows else None

    def wait_for_leader(self) -> None:
        """Wait until the leader's task has ended, whether it succeeded or failed."""
        if self.thread is not None:
            self.thread.join(timeout=20)
            assert not self.thread.is_alive()

    def _fetch(self) -> None:
        try:
            self.driver.fetch("leader", DIGEST)
        except BaseException as error:
            self.raised.append(error)

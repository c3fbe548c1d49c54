"""Pulls that continue whatever fault is injected, and what happened to them."""

import hashlib
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
from celery import Celery

from tests.acceptance.faults.fleet import FaultyFleet
from tests.benchmarks.links import ill_linked
from tests.fakes.faults import Throttle
from tests.fakes.registry import FakeRegistry, digest_of

_BASES = 4
_BASE_BYTES = 2_000_000
_TOP_BYTES = 400_000
_PACE = Throttle(bytes_per_second=1_000_000)
_EVERY_SECONDS = 1.0
_SETTLE_SECONDS = 120.0
_ANSWER_SECONDS = 30.0


@dataclass
class Verdict:
    """What went wrong. Every figure except `pulls` and `refetched` has to be 0."""

    figures: dict[str, int]


@dataclass
class Traffic:
    """Sends pulls by name as any other service would, and judges the outcome."""

    fleet: FaultyFleet
    registry: FakeRegistry
    dice: random.Random
    pulls: dict[str, str] = field(default_factory=dict)
    layers: dict[str, int] = field(default_factory=dict)
    _bases: list[bytes] = field(default_factory=list)
    _requests: int = 0

    def begin(self) -> None:
        """Start a new count, with new bases that have not been pulled."""
        self.registry.heal()
        self.registry.fail(_PACE)
        self.pulls.clear()
        self.layers.clear()
        self._bases = [os.urandom(_BASE_BYTES) for _ in range(_BASES)]
        self._requests = len(self.registry.requests)

    def send(self, count: int) -> None:
        """Send pulls of this many images: some bases, and one distinct layer each."""
        for _ in range(count):
            name = f"app-{uuid4().hex}"
            layers = [*self.dice.sample(self._bases, 2), os.urandom(_TOP_BYTES)]
            self.registry.put_image(name, "1", layers)
            self.layers |= {digest_of(raw): len(raw) for raw in layers}
            pull_id = str(uuid4())
            self.pulls[pull_id] = f"{self.registry.host}/{name}:1"
            self._send(pull_id)

    def under_way(self) -> None:
        """Wait until bytes of a layer or two have arrived."""
        deadline = time.monotonic() + _ANSWER_SECONDS
        while time.monotonic() < deadline:
            if len(self._sql("SELECT 1 FROM leases WHERE bytes_done > 0")) >= 2:
                return
            self._send_unrecorded()
            time.sleep(0.1)

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Send all the time."""
        stop = threading.Event()

        def stream() -> None:
            while not stop.wait(_EVERY_SECONDS):
                with suppress(Exception):
                    self.send(1)

        thread = threading.Thread(target=stream)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def settle(self) -> Verdict:
        """Wait until all pulls have ended, then count."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < deadline:
            self._send_unrecorded()
            rows = self._rows()
            if len(rows) == len(self.pulls) and all(row["answered"] for row in rows.values()):
                break
            time.sleep(0.2)
        rows = self._rows()
        ended = {"complete", "failed", "cancelled"}
        for pull_id in self.pulls:
            if rows.get(pull_id, {}).get("state") != "complete":
                row = self._sql("SELECT to_jsonb(pulls) FROM pulls WHERE id = %s", pull_id)
                print(f"not complete: {row or pull_id}", file=sys.stderr)
        corrupt = self._corrupt()
        return Verdict(
            {
                "pulls": len(self.pulls),
                "lost": sum(
                    pull_id not in rows or rows[pull_id]["state"] in {"failed", "cancelled"}
                    for pull_id in self.pulls
                ),
                "stuck": sum(row["state"] not in ended for row in rows.values()),
                "twice": self._linked_wrongly(rows),
                "corrupt": corrupt,
                "unanswered": self._unanswered(rows),
                "refetched": self._refetched(),
            }
        )

    def _send(self, pull_id: str) -> None:
        # Send again after a failed send, until the pull is in the catalog.
        with suppress(Exception), self._client() as client:
            client.send_task(
                "towline.pull_image",
                kwargs={"reference": self.pulls[pull_id], "platform": "linux/amd64"},
                queue="towline.pulls",
                task_id=pull_id,
                # Every other caller imitates Celery 5.2 to 5.6, which always sends this header.
                **self.dice.choice([{}, {"ignore_result": False}]),
            )

    def _send_unrecorded(self) -> None:
        rows = self._rows()
        for pull_id in list(self.pulls):
            if pull_id not in rows:
                self._send(pull_id)

    @contextmanager
    def _client(self) -> Iterator[Celery]:
        app = Celery(
            broker=self.fleet.redis_url, backend=self.fleet.redis_url, set_as_current=False
        )
        app.conf.broker_transport_options = {"socket_timeout": 5, "socket_connect_timeout": 5}
        app.conf.task_publish_retry = False
        try:
            yield app
        finally:
            app.close()

    def _sql(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The result of a query; waits until the database answers."""
        deadline = time.monotonic() + _ANSWER_SECONDS
        while True:
            try:
                with psycopg.connect(self.fleet.database_url, connect_timeout=5) as connection:
                    return connection.execute(statement.encode(), values).fetchall()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _rows(self) -> dict[str, dict[str, Any]]:
        rows = self._sql(
            "SELECT id, state, answered_at IS NOT NULL, receipt FROM pulls WHERE id = ANY(%s)",
            list(self.pulls),
        )
        names = ("state", "answered", "receipt")
        return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}

    def _linked_wrongly(self, rows: dict[str, dict[str, Any]]) -> int:
        """Images of complete pulls that are not linked once, complete and in order."""
        complete = {
            self.pulls[pull_id] for pull_id, row in rows.items() if row["state"] == "complete"
        }
        wrong = ill_linked(self._sql, self.fleet.volume, self.registry, complete)
        for reference in wrong:
            print(f"linked wrongly: {reference}", file=sys.stderr)
        return len(wrong)

    def _corrupt(self) -> int:
        """Files that do not hash to their name, rows without a file, files without a row."""
        paths = {
            f"{path.parent.name}:{path.name}": path
            for path in (self.fleet.volume / "blobs").glob("*/*")
        }
        wrong = 0
        for digest in set(paths) & set(self.layers):
            with paths[digest].open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
            wrong += digest != f"sha256:{actual}"
        rows = {row[0] for row in self._sql("SELECT digest FROM blobs WHERE stored_at IS NOT NULL")}
        for digest in rows ^ set(paths):
            print(f"row {digest in rows}, file {digest in paths}: {digest}", file=sys.stderr)
        return wrong + len(rows ^ set(paths))

    def _unanswered(self, rows: dict[str, dict[str, Any]]) -> int:
        """Complete pulls whose receipt cannot be read by their id."""
        wrong = 0
        with self._client() as client:
            for pull_id, row in rows.items():
                if row["state"] == "complete":
                    wrong += client.backend.get_task_meta(pull_id).get("result") != row["receipt"]
        return wrong

    def _refetched(self) -> int:
        sent = Counter[str]()
        for request in self.registry.requests[self._requests :]:
            digest = request.path.rpartition("/")[2]
            if digest in self.layers:
                sent[digest] += request.sent
        return sum(max(count - self.layers[digest], 0) for digest, count in sent.items())

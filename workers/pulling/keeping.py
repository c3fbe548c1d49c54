"""The keeper: one thread a process that keeps this process's leases alive, and ends downloads that
no pull wants any more.

Every second, while there is anything to keep, and in one transaction: it writes down how far each
download is, renews the leases that are due, and asks who still wants the bytes; what downloads have
freed by then goes back to the system. A lease is renewed only while its download showed a sign of
life within the stall time, so that a write that hangs for ever does not hold its lease for ever. At
rest it asks nothing.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from shared import allocator
from shared.catalog import leases, pulls, step_leases, waiters
from shared.catalog.database import Catalog
from shared.catalog.step_leases import StepLease
from shared.catalog.waiters import Wanted
from shared.errors import CatalogUnavailable
from shared.settings import Settings
from workers.pulling.stops import LeaseLost, LettingGo, NotWanted, Paused, StoredElsewhere
from workers.pulling.tally import Tally, Transfer

_log = logging.getLogger(__name__)

_INTERVAL_SECONDS = 1.0

# A step asks a few small documents and writes a few links; one that takes longer without a sign of
# life hangs.
_LONGEST_STEP_SECONDS = 300.0

# Leases are renewed after a third of their life; behind this part of it one may have expired.
_SURELY_HELD = 2 / 3


@dataclass(slots=True)
class _Step:
    lease: StepLease
    # Its last sign of life.
    since: float
    renewed_at: float
    is_lost: bool = False


_Kept = TypeVar("_Kept", Transfer, _Step)


class Keeper:
    """See the module. `letting_go` tells that the process is to end soon."""

    def __init__(
        self, catalog: Catalog, settings: Settings, letting_go: Callable[[], bool]
    ) -> None:
        self._catalog = catalog
        self._lease_seconds = settings.lease_seconds
        self._patience_seconds = settings.stall_timeout_seconds
        self._letting_go = letting_go
        self._transfers: dict[int, Transfer] = {}
        self._steps: dict[int, _Step] = {}
        self._changed = threading.Condition()
        self.tally = Tally(catalog)
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def keeping(self, transfer: Transfer) -> Iterator[None]:
        """Keep a download's lease while it runs. What it fetched is counted when it fails; who
        lands it counts the rest (`tally`).
        """
        transfer.renewed_at = time.monotonic()
        try:
            with self._entered(self._transfers, transfer.fence, transfer):
                yield
        except BaseException:
            # How much came is for the receipt; what came is on the volume.
            with suppress(CatalogUnavailable):
                self.tally.count([transfer])
            raise

    @contextmanager
    def keeping_step(self, lease: StepLease) -> Iterator[Callable[[], None]]:
        """Keep the lease of a pull's step while it runs. What it is given is its sign of life; that
        raises LeaseLost once another process has the lease.
        """
        now = time.monotonic()
        step = _Step(lease, now, now)

        def beat() -> None:
            if time.monotonic() - step.renewed_at > self._lease_seconds * _SURELY_HELD:
                # This process stood still: it asks, instead of waiting for the next look.
                self._renew_steps([step])
            if step.is_lost:
                raise LeaseLost(f"Another worker has taken {lease.name} over.")
            step.since = time.monotonic()

        with self._entered(self._steps, lease.fence, step):
            yield beat

    @property
    def is_letting_go(self) -> bool:
        """Whether this process is to end soon."""
        return self._letting_go()

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    @contextmanager
    def _entered(self, entries: dict[int, _Kept], fence: int, entry: _Kept) -> Iterator[None]:
        with self._changed:
            entries[fence] = entry
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                del entries[fence]

    def _run(self) -> None:
        while self._next_look():
            with self._changed:
                transfers = list(self._transfers.values())
                steps = list(self._steps.values())
            self._look_after(transfers, steps)

    def _next_look(self) -> bool:
        """Wait until something has been kept for a while; False when the process ends.

        What is over sooner, a small layer, a quick step, costs no look.
        """
        with self._changed:
            while not self._closed and not self._transfers and not self._steps:
                self._changed.wait()
            self._changed.wait_for(lambda: self._closed, _INTERVAL_SECONDS)
            return not self._closed

    def _look_after(self, transfers: list[Transfer], steps: list[_Step]) -> None:
        if self._letting_go():
            for one in transfers:
                one.progress.stop(LettingGo("This worker is shutting down."))
        try:
            self._renew_steps(self._due_steps(steps))
            if transfers:
                # First: it must not wait for a database that is away.
                allocator.give_back()
                self.tally.count(transfers)
                self._renew(transfers)
        except CatalogUnavailable:
            # Bytes go on coming while the database is away; the next look catches up.
            return
        except Exception:
            # Without this thread every download of the process would lose its lease.
            _log.exception("The keeper failed; it looks again.")

    def _renew(self, transfers: list[Transfer]) -> None:
        now = time.monotonic()
        due = {one.fence for one in transfers if self._is_due(one.renewed_at, now)}
        alive = {
            one.fence for one in transfers if now - one.progress.active_at <= self._patience_seconds
        }
        with self._catalog.begin() as tx:
            holding = leases.renew(
                tx,
                [
                    leases.Report(
                        one.registry,
                        one.digest,
                        one.fence,
                        one.progress.offset,
                        renew=one.fence in due & alive,
                    )
                    for one in transfers
                ],
                self._lease_seconds,
            )
            wanted = waiters.wanted(
                tx, [(one.registry, one.digest, one.fence, one.pull_id) for one in transfers]
            )
            for one in transfers:
                pulls.refresh_bytes_done(tx, one.pull_id, one.registry)
        verdicts = {verdict.fence: verdict for verdict in wanted}
        for one in transfers:
            if one.fence in due & alive:
                one.renewed_at = now
            if one.fence not in holding:
                one.progress.stop(LeaseLost(f"Another worker has taken {one.digest} over."))
            else:
                self._judge(one, verdicts[one.fence])

    def _judge(self, transfer: Transfer, verdict: Wanted) -> None:
        if verdict.stored:
            transfer.progress.stop(StoredElsewhere(f"{transfer.digest} is stored."))
        elif verdict.pull_id is None:
            transfer.progress.stop(NotWanted(f"No pull wants {transfer.digest} any more."))
        elif verdict.paused:
            transfer.progress.stop(Paused(f"Who wants {transfer.digest} is paused."))
        elif verdict.pull_id != transfer.pull_id:
            # Its pull has ended; the best of those that wait for it takes its place.
            with self._catalog.begin() as tx:
                leases.assign(
                    tx, transfer.registry, transfer.digest, transfer.fence, verdict.pull_id
                )
            transfer.pull_id = verdict.pull_id

    def _due_steps(self, steps: list[_Step]) -> list[_Step]:
        now = time.monotonic()
        return [
            one
            for one in steps
            if self._is_due(one.renewed_at, now) and now - one.since < _LONGEST_STEP_SECONDS
        ]

    def _renew_steps(self, steps: list[_Step]) -> None:
        if not steps:
            return
        now = time.monotonic()
        with self._catalog.begin() as tx:
            holding = step_leases.renew(tx, [one.lease.fence for one in steps], self._lease_seconds)
        for one in steps:
            one.renewed_at = now
            one.is_lost = one.lease.fence not in holding

    def _is_due(self, renewed_at: float, now: float) -> bool:
        return now - renewed_at >= self._lease_seconds / 3

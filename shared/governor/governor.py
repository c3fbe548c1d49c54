"""The gate before every request to a registry: one round trip to Redis at most, and none at rest.

A request enters with a permit, a leased connection, and leaves when its body is closed. Requests
that follow each other at once go by one permit, for as long as its verdict is fresh. Who may not
enter is told until when; nothing was asked then, and nothing counts as a failure. What came of a
request is told to the fleet where it matters: a 429 holds everybody back until the time that the
registry named, a host that did not answer is not asked for a while, and one request alone looks
whether that is over. While Redis is away the gate stays open, a crack (`knowledge.py`).
"""

import math
import random
import threading
import time
from collections import Counter
from uuid import uuid4

from redis import Redis

from shared.errors import HeldBack, HostIsDead
from shared.governor.board import PERMIT_SECONDS, Verdict
from shared.governor.knowledge import Knowledge
from shared.governor.limits import Limits

# Who finds all connections taken looks again, this often, before the task gives its slot back.
_LOOKS = 8
_LOOK_SECONDS = 0.25
_TICK_SECONDS = 1.0
# So long a host may be asked again without a question to the fleet: as late it hears of a 429.
_FRESH_SECONDS = 0.2
# Bandwidth is asked for in portions of so many seconds.
_PORTION_SECONDS = 0.1


class Permit:
    """One connection to a host that is in use. Use it as a context manager, or call `leave()`."""

    def __init__(self, governor: "Governor", host: str, limits: Limits, *, probe: bool) -> None:
        self.id = uuid4().hex
        self.host = host
        self.limits = limits
        self.probe = probe
        self.local = False
        # When the fleet said so, by time.monotonic().
        self.told_at = time.monotonic()
        self._governor = governor

    def __enter__(self) -> "Permit":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """The connection is free again. Harmless twice."""
        self._governor.take_back(self)

    def answered(self) -> None:
        """The host answered, in whatever way: it is alive, and asks nobody to wait."""
        if self.probe:
            self.probe = False
            self._governor.knowledge.open(self.host)

    def hold(self, seconds: float | None) -> float:
        """The registry asked to be left alone (429, Retry-After). How long everybody waits."""
        self.probe = False
        self._governor.doubt(self.host)
        return self._governor.knowledge.hold(self.host, seconds)

    def bury(self) -> None:
        """The host did not answer, or answered with what is not its own."""
        self.probe = False
        self._governor.doubt(self.host)
        self._governor.knowledge.bury(self.host)

    def received(self, count: int) -> float:
        """`count` bytes came. How long no more are read, in seconds."""
        limit = self.limits.bandwidth_bytes_per_second
        return 0.0 if limit is None else self._governor.pace(self.host, count, limit)


class Governor:
    """The gate of one process, for all its threads. `client` None: no Redis, one process alone.

    `usual`: the limits of a host that has none of its own.
    """

    def __init__(self, client: Redis | None, usual: Limits) -> None:
        self._usual = usual
        self.knowledge = Knowledge(client)
        self._changed = threading.Condition()
        self._out: dict[str, Permit] = {}
        self._back: list[Permit] = []
        # By host, not by permit: most ranges and layers are over before they fill a portion.
        self._unpaced_bytes: Counter[str] = Counter()
        self._thread: threading.Thread | None = None
        self._closed = False

    def close(self) -> None:
        """Give every permit back."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        self.knowledge.close()

    def enter(
        self,
        host: str,
        connections: int | None = None,
        requests_per_second: float | None = None,
        bandwidth_bytes_per_second: int | None = None,
    ) -> Permit:
        """A permit for one request. Raises HeldBack, HostIsDead: nothing was asked."""
        limits = Limits(
            connections or self._usual.connections,
            requests_per_second or self._usual.requests_per_second,
            bandwidth_bytes_per_second or self._usual.bandwidth_bytes_per_second,
        )
        permit = Permit(self, host, limits, probe=False)
        if self._go_on(permit):
            return permit
        for look in range(_LOOKS):
            verdict = self._ask(permit)
            if verdict.word in {"go", "probe", "local"}:
                permit.probe = verdict.word == "probe"
                permit.local = verdict.word == "local"
                self._keep(permit)
                if verdict.seconds:
                    # Not for nothing: to sleep is to let other threads go first.
                    time.sleep(verdict.seconds)
                return permit
            if verdict.word != "full" or look == _LOOKS - 1:
                break
            time.sleep(_LOOK_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - spread only
        raise _refusal(permit, verdict)

    def take_back(self, permit: Permit) -> None:
        """The permit's connection is free again."""
        with self._changed:
            # The one that goes on with it has the same id.
            if self._out.get(permit.id) is not permit:
                return
            del self._out[permit.id]
            if permit.local:
                self.knowledge.leave_local(permit.host)
            else:
                self._back.append(permit)

    def pace(self, host: str, count: int, bytes_per_second: int) -> float:
        """`count` bytes came, over whichever connection. How long no more are read, in seconds."""
        with self._changed:
            self._unpaced_bytes[host] += count
            if self._unpaced_bytes[host] < bytes_per_second * _PORTION_SECONDS:
                return 0.0
            portion = self._unpaced_bytes.pop(host)
        return self.knowledge.pace(host, portion, bytes_per_second)

    def doubt(self, host: str) -> None:
        """The fleet has something new to say about this host."""
        with self._changed:
            for one in (*self._back, *self._out.values()):
                if one.host == host:
                    one.told_at = -math.inf

    def _go_on(self, permit: Permit) -> bool:
        """Whether a request that has just ended leaves its connection to this one."""
        if permit.limits.requests_per_second is not None:
            return False
        fresh = time.monotonic() - _FRESH_SECONDS
        with self._changed:
            for one in self._back:
                is_fresh = one.told_at > fresh and not one.probe
                if is_fresh and one.host == permit.host and one.limits == permit.limits:
                    self._back.remove(one)
                    permit.id, permit.told_at = one.id, one.told_at
                    self._out[permit.id] = permit
                    return True
        return False

    def _ask(self, permit: Permit) -> Verdict:
        with self._changed:
            back = [one.id for one in self._back if one.host == permit.host]
            self._back = [one for one in self._back if one.host != permit.host]
        return self.knowledge.enter(permit.host, permit.id, permit.limits, back)

    def _keep(self, permit: Permit) -> None:
        with self._changed:
            self._out[permit.id] = permit
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="governor", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        """Renew what is out, and send back what nobody took along."""
        renewed_at = time.monotonic()
        while True:
            with self._changed:
                while not self._closed and not self._out and not self._back:
                    self._changed.wait()
                if not self._closed:
                    # Not hurried by requests that come: what is back may go on with the next.
                    self._changed.wait_for(lambda: self._closed, _TICK_SECONDS)
                out = [(one.host, one.id) for one in self._out.values() if not one.local]
                back, self._back = [(one.host, one.id) for one in self._back], []
                closed = self._closed
            if back:
                self.knowledge.leave(back)
            if closed:
                return
            if out and time.monotonic() - renewed_at >= PERMIT_SECONDS / 3:
                renewed_at = time.monotonic()
                self.knowledge.renew(out)


def _refusal(permit: Permit, verdict: Verdict) -> HeldBack | HostIsDead:
    host, limits, seconds = permit.host, permit.limits, verdict.seconds
    if verdict.word == "dead":
        return HostIsDead(f"{host} did not answer before: it is asked again in {seconds:.0f} s.")
    sentence = {
        "held": f"{host} asked all workers to wait, for {seconds:.0f} s more",
        "turn": f"{host} is asked no more than {limits.requests_per_second} times a second",
        "full": f"all {limits.connections} connections to {host} that the fleet may have are taken",
    }[verdict.word]
    return HeldBack(f"{sentence}.", None, seconds)

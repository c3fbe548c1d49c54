"""The rate limiter of one process: every request to a registry needs a permit.

A permit represents one of the connections that the fleet may open to a host. It is acquired before
the request is sent and released when the body is closed. Redis expires the permits of a worker that
was killed.

    a request to a host
      │
      ├─ a fresh permit of the host was just released ──► reuse it, without a round trip
      │
      ├─ ask Redis, one round trip ─┬─ go ──────────────► a permit
      │                             ├─ probe ───────────► a permit; an answer reopens the host
      │                             ├─ full ────────────► ask again for two seconds, then HeldBack
      │                             ├─ held, turn ──────► HeldBack
      │                             └─ dead ────────────► HostIsDead
      │
      └─ Redis is unreachable ──────► this process decides alone: two connections to each host

A refused request is not sent. The error says when to come back, and the refusal does not count as a
failed attempt. Results that concern the fleet are reported to Redis:

- after a 429 no worker sends a request to the host until the time that the registry named;
- a host that did not answer is marked as unreachable for a while;
- after either, a single request, the probe, finds out whether the host works again.
"""

import math
import random
import threading
import time
from collections import Counter
from uuid import uuid4

from redis import Redis

from shared.errors import HeldBack, HostIsDead
from shared.rate_limiter.host_state import HostState
from shared.rate_limiter.redis_state import PERMIT_SECONDS, Decision, Limits

# While all connections are in use the limiter polls this often before it raises, so that a task
# does not give up its slot for a wait of a second or two.
_POLLS = 8
_POLL_SECONDS = 0.25
# How often the thread sends released permits back and checks whether renewals are due.
_TICK_SECONDS = 1.0
# A permit may be reused without asking Redis for this long. It is also the longest delay with
# which this process learns of another worker's 429.
_FRESH_SECONDS = 0.2
# Bytes are reported to Redis in portions: as many as the host's limit allows in this time.
_PORTION_SECONDS = 0.1


class Permit:
    """One connection to a host, in use. A context manager; otherwise call `release()`."""

    def __init__(self, limiter: "RateLimiter", host: str, limits: Limits) -> None:
        self.id = uuid4().hex
        self.host = host
        self.limits = limits
        # The only request to a host that was held or unreachable, and not answered yet.
        self.is_probe = False
        # Granted by this process alone: Redis does not know it.
        self.is_local = False
        # When Redis granted it, by time.monotonic(). A reused permit keeps the earlier time.
        self.granted_at = time.monotonic()
        self._limiter = limiter

    def __enter__(self) -> "Permit":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Release the connection. A second call does nothing."""
        self._limiter.release(self)

    def answered(self) -> None:
        """The host answered and asked for no pause. The answer to a probe reopens the host."""
        if self.is_probe:
            self.is_probe = False
            self._limiter.host_state.reopen(self.host)

    def back_off(self, seconds: float | None) -> float:
        """The registry asked for a pause (429, Retry-After). Returns the fleet's wait, in seconds.

        `seconds`: what the registry asked for, None if it named no time.
        """
        self.is_probe = False
        self._limiter.expire_permits(self.host)
        return self._limiter.host_state.back_off(self.host, seconds)

    def mark_unreachable(self) -> None:
        """Mark the host as unreachable: it did not answer, or the answer was not its own."""
        self.is_probe = False
        self._limiter.expire_permits(self.host)
        self._limiter.host_state.mark_unreachable(self.host)

    def received(self, count: int) -> float:
        """`count` bytes arrived. Returns how long to wait before reading more, in seconds."""
        limit = self.limits.bandwidth_bytes_per_second
        return 0.0 if limit is None else self._limiter.pace(self.host, count, limit)


class RateLimiter:
    """The rate limiter of one process, shared by its threads.

    `client` None: there is no Redis, and this process is the only one. `defaults`: the limits of
    hosts for which the operator has set none.
    """

    def __init__(self, client: Redis | None, defaults: Limits) -> None:
        self._defaults = defaults
        self.host_state = HostState(client)
        self._changed = threading.Condition()
        self._in_use: dict[str, Permit] = {}
        # Released here but not in Redis yet: the next request to the host may reuse them.
        self._released: list[Permit] = []
        # Counted by host and not by permit: most requests end before they fill a portion.
        self._unpaced_bytes: Counter[str] = Counter()
        self._thread: threading.Thread | None = None
        self._closed = False

    def close(self) -> None:
        """Stop the thread and send every released permit back to Redis."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        self.host_state.close()

    def acquire(
        self,
        host: str,
        connections: int | None = None,
        requests_per_second: float | None = None,
        bandwidth_bytes_per_second: int | None = None,
    ) -> Permit:
        """A permit for one request; limits that are None take the default.

        May sleep: while all connections are in use, or until the request's turn. Raises HeldBack
        and HostIsDead; the caller must not send the request then.
        """
        limits = Limits(
            connections or self._defaults.connections,
            requests_per_second or self._defaults.requests_per_second,
            bandwidth_bytes_per_second or self._defaults.bandwidth_bytes_per_second,
        )
        permit = Permit(self, host, limits)
        if self._reuse(permit):
            return permit
        decision = self._ask(permit)
        for _ in range(_POLLS - 1):
            if decision.action != "full":
                break
            time.sleep(_POLL_SECONDS * random.uniform(0.5, 1.5))  # noqa: S311 - spread only
            decision = self._ask(permit)
        if not decision.is_granted:
            raise _refusal(permit, decision)
        permit.is_probe = decision.action == "probe"
        permit.is_local = decision.action == "local"
        self._keep(permit)
        if decision.seconds:
            # Never sleep(0): it would give other threads the interpreter.
            time.sleep(decision.seconds)
        return permit

    def release(self, permit: Permit) -> None:
        """Release the permit's connection, unless it was released before."""
        with self._changed:
            # A permit that was reused has the same id but is another object.
            if self._in_use.get(permit.id) is not permit:
                return
            del self._in_use[permit.id]
            if permit.is_local:
                self.host_state.release_local(permit.host)
            else:
                self._released.append(permit)

    def pace(self, host: str, count: int, bytes_per_second: int) -> float:
        """Count bytes of any connection to the host. Returns the wait before reading more, in
        seconds.
        """
        with self._changed:
            self._unpaced_bytes[host] += count
            if self._unpaced_bytes[host] < bytes_per_second * _PORTION_SECONDS:
                return 0.0
            portion = self._unpaced_bytes.pop(host)
        return self.host_state.pace(host, portion, bytes_per_second)

    def expire_permits(self, host: str) -> None:
        """The host's state has changed: no permit of it may be reused without asking Redis."""
        with self._changed:
            for permit in (*self._released, *self._in_use.values()):
                if permit.host == host:
                    permit.granted_at = -math.inf

    def _reuse(self, permit: Permit) -> bool:
        """Give `permit` the id of a fresh released one, if there is one. Asks nothing of Redis."""
        if permit.limits.requests_per_second is not None:
            # Each request needs a turn, which only Redis can assign.
            return False
        oldest = time.monotonic() - _FRESH_SECONDS
        with self._changed:
            for released in self._released:
                # An unanswered probe is not reused: the state of its host is still unknown.
                is_fresh = released.granted_at > oldest and not released.is_probe
                same_use = released.host == permit.host and released.limits == permit.limits
                if is_fresh and same_use:
                    self._released.remove(released)
                    permit.id, permit.granted_at = released.id, released.granted_at
                    self._in_use[permit.id] = permit
                    return True
        return False

    def _ask(self, permit: Permit) -> Decision:
        """Ask for the permit; the same round trip returns the released permits of its host."""
        with self._changed:
            released = [other.id for other in self._released if other.host == permit.host]
            self._released = [other for other in self._released if other.host != permit.host]
        return self.host_state.acquire(permit.host, permit.id, permit.limits, released)

    def _keep(self, permit: Permit) -> None:
        with self._changed:
            self._in_use[permit.id] = permit
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rate-limiter", daemon=True)
                self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        """Renew the permits in use, and send released ones back that no request has reused."""
        renewed_at = time.monotonic()
        while True:
            with self._changed:
                while not self._closed and not self._in_use and not self._released:
                    self._changed.wait()
                if not self._closed:
                    # Only `close()` cuts this wait short. Until it ends, a new request may reuse
                    # the released permits.
                    self._changed.wait_for(lambda: self._closed, _TICK_SECONDS)
                in_use = [
                    (permit.host, permit.id)
                    for permit in self._in_use.values()
                    if not permit.is_local
                ]
                released = [(permit.host, permit.id) for permit in self._released]
                self._released = []
                closed = self._closed
            if released:
                self.host_state.release(released)
            if closed:
                return
            if in_use and time.monotonic() - renewed_at >= PERMIT_SECONDS / 3:
                renewed_at = time.monotonic()
                self.host_state.renew(in_use)


def _refusal(permit: Permit, decision: Decision) -> HeldBack | HostIsDead:
    host, limits, seconds = permit.host, permit.limits, decision.seconds
    if decision.action == "dead":
        return HostIsDead(
            f"{host} did not answer before: the fleet tries it again in {seconds:.0f} s."
        )
    sentence = {
        "held": f"{host} asked for a pause: the fleet sends it nothing for {seconds:.0f} s",
        "turn": f"{host} is limited to {limits.requests_per_second} requests per second: the next "
        f"turn is in {seconds:.0f} s",
        "full": f"all {limits.connections} connections that the fleet may open to {host} are in "
        "use",
    }[decision.action]
    return HeldBack(f"{sentence}.", None, seconds)

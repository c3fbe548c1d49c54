"""Checks of the registries: their configuration, and which of them are not asked at the moment."""

from collections.abc import Iterator

from redis.exceptions import RedisError

from shared.errors import InvalidArgument
from shared.rate_limiter import connect
from shared.rate_limiter.redis_state import ClosedHost, RedisState
from shared.registry.hosts import Hosts
from workers.doctor.check_result import Finding, counted, information, ok, problem, warning
from workers.doctor.checked_fleet import CheckedFleet


def configured(fleet: CheckedFleet) -> Iterator[Finding]:
    """Whether the registries file can be used. No finding if none is configured."""
    file = fleet.settings.registries_file
    if file is None:
        return
    try:
        hosts = Hosts(file)
    except InvalidArgument as error:
        yield problem(str(error))
        return
    yield ok(
        f"{file} configures {counted(len(hosts.names), 'registry', 'registries')}.", hosts.names
    )


def not_asked(fleet: CheckedFleet) -> Iterator[Finding]:
    """Hosts that asked the fleet to wait, and mirrors that are skipped. No finding if Redis, which
    holds this state, cannot be reached.
    """
    url = fleet.settings.broker_url
    client = connect(url.get_secret_value()) if url else None
    if client is None:
        return
    try:
        closed = RedisState(client).closed_hosts()
    except RedisError:
        return
    finally:
        client.close()
    if not closed:
        yield ok("No registry is rate-limiting the fleet, and no mirror is excluded.")
    yield from map(_closed, closed)


def _closed(closed: ClosedHost) -> Finding:
    host, seconds = closed.host, f"{closed.seconds:.0f} s"
    if closed.kind == "held":
        return information(
            f"{host} asked the fleet to wait (429 or Retry-After): no worker sends it a request "
            f"for another {seconds}. If this happens often, log in there or set up a mirror."
        )
    return warning(
        f"The mirror {host} did not answer, or served wrong bytes: the fleet skips it for another "
        f"{seconds}. Repair it, or remove it from TOWLINE_REGISTRIES_FILE."
    )

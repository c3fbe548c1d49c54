"""Checks of the registries: their configuration, and which of them are not asked at the moment."""

from collections.abc import Iterator

from redis.exceptions import RedisError

from shared.errors import InvalidArgument
from shared.rate_limiter import connect
from shared.rate_limiter.redis_state import ClosedHost, RedisState
from shared.registry.hosts import Hosts
from shared.settings import Settings
from workers.doctor.finding import CheckResult, counted


def configured(settings: Settings) -> Iterator[CheckResult]:
    """Whether the registries file can be used. No finding if none is configured."""
    file = settings.registries_file
    if file is None:
        return
    try:
        hosts = Hosts(file)
    except InvalidArgument as error:
        yield CheckResult("registries", "problem", str(error))
        return
    what = counted(len(hosts.names), "registry", "registries")
    yield CheckResult("registries", "ok", f"{file} configures {what}.", hosts.names)


def check_rate_limits(settings: Settings) -> Iterator[CheckResult]:
    """Hosts that asked the fleet to wait, and mirrors that are skipped. No finding if Redis, which
    holds this state, cannot be reached: `queue_checks.check_redis` reports that.
    """
    client = connect(settings.broker_url.get_secret_value()) if settings.broker_url else None
    if client is None:
        return
    try:
        found = RedisState(client).closed_hosts()
    except RedisError:
        return
    finally:
        client.close()
    if not found:
        yield CheckResult(
            "registries", "ok", "No registry is rate-limiting the fleet, and no mirror is excluded."
        )
    for closed in found:
        yield _finding(closed)


def _finding(closed: ClosedHost) -> CheckResult:
    host, seconds = closed.host, f"{closed.seconds:.0f} s"
    if closed.kind == "held":
        return CheckResult(
            "registries",
            "information",
            f"{host} asked the fleet to wait (429 or Retry-After): no worker sends it a request "
            f"for another {seconds}. If this happens often, log in there or set up a mirror.",
        )
    return CheckResult(
        "registries",
        "warning",
        f"The mirror {host} did not answer, or served wrong bytes: the fleet skips it for another "
        f"{seconds}. Repair it, or remove it from TOWLINE_REGISTRIES_FILE.",
    )

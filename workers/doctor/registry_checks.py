"""Checks of the registries: their configuration, and which of them are not asked at the moment."""

from collections.abc import Iterator

from redis.exceptions import RedisError

from shared.errors import InvalidArgument
from shared.rate_limiter import connect
from shared.rate_limiter.redis_state import Board, Trouble
from shared.registry.hosts import Hosts
from shared.settings import Settings
from workers.doctor.finding import Finding, counted


def configured(settings: Settings) -> Iterator[Finding]:
    """Whether the registries file can be used. No finding if none is configured."""
    file = settings.registries_file
    if file is None:
        return
    try:
        hosts = Hosts(file)
    except InvalidArgument as error:
        yield Finding("registries", "problem", str(error))
        return
    what = counted(len(hosts.names), "registry", "registries")
    yield Finding("registries", "ok", f"{file} configures {what}.", hosts.names)


def troubles(settings: Settings) -> Iterator[Finding]:
    """Hosts that asked the fleet to wait, and mirrors that are skipped. No finding if Redis, which
    holds this state, cannot be reached: `queue.answers` reports that.
    """
    client = connect(settings.broker_url.get_secret_value()) if settings.broker_url else None
    if client is None:
        return
    try:
        found = Board(client).troubles()
    except RedisError:
        return
    finally:
        client.close()
    if not found:
        yield Finding(
            "registries", "ok", "No registry is rate-limiting the fleet, and no mirror is excluded."
        )
    for trouble in found:
        yield _finding(trouble)


def _finding(trouble: Trouble) -> Finding:
    host, seconds = trouble.host, f"{trouble.seconds:.0f} s"
    if trouble.kind == "held":
        return Finding(
            "registries",
            "information",
            f"{host} asked the fleet to wait (429 or Retry-After): no worker sends it a request "
            f"for another {seconds}. If this happens often, log in there or set up a mirror.",
        )
    return Finding(
        "registries",
        "warning",
        f"The mirror {host} did not answer, or served wrong bytes: the fleet skips it for another "
        f"{seconds}. Repair it, or remove it from TOWLINE_REGISTRIES_FILE.",
    )

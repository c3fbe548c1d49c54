"""Checks of the registries: their configuration, and which of them nobody asks at the moment."""

from collections.abc import Iterator

from redis.exceptions import RedisError

from shared.errors import InvalidArgument
from shared.governor import connect
from shared.governor.board import Board, Trouble
from shared.registry.hosts import Hosts
from shared.settings import Settings
from workers.examining.finding import Finding, counted


def configured(settings: Settings) -> Iterator[Finding]:
    """Whether the registries file, if there is one, can be used."""
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
    """The hosts that the whole fleet leaves alone."""
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
        yield Finding("registries", "ok", "The fleet leaves no registry alone.")
    for trouble in found:
        yield _told(trouble)


def _told(trouble: Trouble) -> Finding:
    host, seconds = trouble.host, f"{trouble.seconds:.0f} s"
    if trouble.kind == "held":
        return Finding(
            "registries",
            "information",
            f"{host} asked to be left alone (429 or Retry-After): all workers wait, for {seconds} "
            "more. Log in there, or set up a mirror, where that happens often.",
        )
    return Finding(
        "registries",
        "warning",
        f"The mirror {host} did not answer, or served wrong bytes: the fleet passes it over for "
        f"{seconds} more. Mend it, or take it out of TOWLINE_REGISTRIES_FILE.",
    )

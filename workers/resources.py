"""Builds the context of a process's steps: database, volume, registries.

Only this module does so, and only after the fork: a child must not share its parent's sockets.
"""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from typing import cast

from shared.catalog.database.catalog import Catalog
from shared.catalog.pulls import lifecycle
from shared.catalog.schema.revision import check
from shared.errors import InvalidArgument, VolumeUnavailable
from shared.pulls.context import Context, Unpack
from shared.pulls.steps.heartbeat import LeaseRenewer
from shared.pulls.steps.outcomes import NodeSick
from shared.rate_limiter import Limits, RateLimiter, connect
from shared.registry.client import RegistryClient
from shared.settings import Settings
from shared.volume.store import Volume
from workers.health.node_health import NodeHealth, node_health
from workers.health.probe import Probe, process_trouble
from workers.process.fleet_volume import open_volume
from workers.process.grace_time import grace_time

_lock = threading.Lock()
_built: tuple[int, Context] | None = None


def resources() -> Context:
    """This process's resources, built at their first use.

    Raises CatalogUnavailable, VolumeUnavailable, and InvalidArgument for an unknown schema.
    """
    global _built  # noqa: PLW0603 - one set per process is the point
    with _lock:
        # A forked child inherits its parent's value, but must not share the sockets in it.
        if _built is None or _built[0] != os.getpid():
            _built = (os.getpid(), _build(Settings.read()))
        return _built[1]


def resources_of_healthy_node() -> Context:
    """Return `resources()` for a step.

    Raises NodeSick while this node cannot work, for instance without its volume. Raises SystemExit
    if the node can work and only this process cannot.
    """
    node_health.raise_if_sick()
    if node_health.is_suspect:
        if process_trouble() is not None:
            # This child process has reached a limit. The pool replaces it, and the message comes
            # back.
            raise SystemExit(1)
        node_health.clear_suspicion()
    try:
        return resources()
    except Exception as error:
        trouble = error.message if isinstance(error, VolumeUnavailable) else process_trouble()
        if trouble is None:
            raise
        node_health.report(trouble)
        raise NodeSick(trouble) from error


def is_recorded(pull_id: str) -> bool:
    """Whether this pull has a row; False as well if the catalog cannot be read now."""
    try:
        with _any_catalog() as catalog, catalog.begin() as tx:
            return lifecycle.get(tx, pull_id) is not None
    except Exception:
        # Whatever the reason: without an answer the caller has to treat the pull as not recorded.
        return False


@contextmanager
def _any_catalog() -> Iterator[Catalog]:
    """The catalog of this process, or a temporary one if none is built.

    The second is the case in the parent of a pool: it must build nothing that its children would
    inherit.
    """
    if _built is not None and _built[0] == os.getpid():
        yield _built[1].catalog
        return
    with closing(Catalog(Settings.read().sqlalchemy_url, pool_size=1)) as catalog:
        yield catalog


def close_resources() -> None:
    """Close this process's resources; the next use builds new ones."""
    global _built  # noqa: PLW0603 - see resources()
    with _lock:
        if _built is not None and _built[0] == os.getpid():
            _built[1].close()
        _built = None


def _build(settings: Settings) -> Context:
    unpack = unpack_with(settings)
    catalog = Catalog(settings.sqlalchemy_url)
    try:
        check(catalog)
        volume = open_volume(catalog, settings.volume_path)
    except BaseException:
        catalog.close()
        raise
    renewer = LeaseRenewer(catalog, settings, grace_time.is_over)
    rate_limiter = new_rate_limiter(settings)
    registry = RegistryClient(settings, rate_limiter.acquire)
    node_trouble = node_probe(volume, node_health)
    return Context(
        settings, catalog, volume, registry, renewer, rate_limiter, node_trouble, unpack=unpack
    )


def node_probe(volume: Volume, node_health: NodeHealth) -> Callable[[], str | None]:
    """A function that probes this node: why it cannot work, None if it can.

    The reason is shared with all processes of this worker, which then stop taking messages.
    """
    probe = Probe()

    def trouble() -> str | None:
        found = probe.trouble(volume.probe)
        if found is not None:
            node_health.report(found)
        return found

    return trouble


def unpack_with(settings: Settings) -> Unpack | None:
    """The function that decompresses layers; None if diff_ids are not verified.

    Its libraries are an extra, so they are imported only if needed. Raises InvalidArgument if one
    is missing.
    """
    if not settings.verify_diff_ids:
        return None
    try:
        module = import_module("shared.volume.diff_ids.verifier")
    except ImportError as error:
        raise InvalidArgument(
            f"TOWLINE_VERIFY_DIFF_IDS is true, but Python has no module {error.name}: install "
            "towline[diff-ids], or set it to false."
        ) from error
    return cast(Unpack, module.DiffIdVerifier)


def new_rate_limiter(settings: Settings) -> RateLimiter:
    """The rate limiter of this process. It shares the fleet's limits through Redis."""
    limits = Limits(
        settings.registry_connections,
        bandwidth_bytes_per_second=settings.bandwidth_bytes_per_second,
    )
    url = settings.broker_url.get_secret_value() if settings.broker_url else None
    return RateLimiter(connect(url) if url else None, limits)

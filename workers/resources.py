"""What a process works with: database, volume, registries, keeper.

Only this module builds these, and it does so after the fork: a child must not share its parent's
sockets.
"""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, cast

from shared.catalog import pulls
from shared.catalog.database import Catalog
from shared.catalog.schema import check, volume_id
from shared.errors import InvalidArgument, VolumeUnavailable
from shared.governor import Governor, Limits, connect
from shared.oci.digest import Digest
from shared.oci.platform import Platform
from shared.registry.client import RegistryClient
from shared.settings import Settings
from shared.volume.store import Volume
from workers.health.probe import Probe, own_trouble
from workers.health.sickness import Sickness, sickness
from workers.pulling.keeping import Keeper
from workers.pulling.spoken_for import SpokenFor
from workers.pulling.stops import NodeSick
from workers.shutdown import letting_go

if TYPE_CHECKING:
    from shared.volume.unpacking import Unpacking

# Starts to decompress a layer. Takes its digest, its size, and the algorithm of its diff_id.
Unpack = Callable[[Digest, int, str], "Unpacking"]


@dataclass(frozen=True, slots=True)
class Resources:
    """The database, the volume and the registries for one process, shared by its threads.

    `unpack`: None if diff_ids are not verified.
    """

    settings: Settings
    catalog: Catalog
    volume: Volume
    registry: RegistryClient
    keeper: Keeper
    governor: Governor
    spoken_for: SpokenFor = field(default_factory=SpokenFor)
    probe: Probe = field(default_factory=Probe)
    sickness: Sickness = field(default_factory=Sickness)
    unpack: Unpack | None = None

    @property
    def default_platform(self) -> Platform:
        """The platform of a pull that names none. Raises InvalidPlatform for a wrong setting."""
        named = self.settings.default_platform
        return Platform.parse(named) if named else Platform.of_machine()

    @property
    def owner(self) -> str:
        """This process as the owner of leases, as people read it: host and process id."""
        return f"{socket.gethostname()}:{os.getpid()}"

    def node_trouble(self) -> str | None:
        """Probe the node. Why it cannot work, None if it can.

        The reason is shared with all processes of this worker, which then stop taking messages.
        """
        trouble = self.probe.trouble(self.volume.look)
        if trouble is not None:
            self.sickness.tell(trouble)
        return trouble

    def close(self) -> None:
        """Stop the keeper, and close all connections and the volume."""
        self.keeper.close()
        self.registry.close()
        self.governor.close()
        self.volume.close()
        self.catalog.close()


_lock = threading.Lock()
_built: tuple[int, Resources] | None = None


def resources() -> Resources:
    """This process's resources, built at their first use.

    Raises CatalogUnavailable, VolumeUnavailable, and InvalidArgument for an unknown schema.
    """
    global _built  # noqa: PLW0603 - one set per process is the point
    with _lock:
        # A forked child inherits its parent's value, but must not share the sockets in it.
        if _built is None or _built[0] != os.getpid():
            _built = (os.getpid(), _build(Settings.read()))
        return _built[1]


def resources_of_well_node() -> Resources:
    """`resources()` for a step.

    Raises NodeSick while this node cannot work, for instance without its volume. Raises SystemExit
    if the node can work and only this process cannot.
    """
    sickness.refuse()
    if sickness.is_suspect:
        if own_trouble() is not None:
            # A child process that has reached a limit: the pool replaces it, and the message comes
            # back.
            raise SystemExit(1)
        sickness.acquit()
    try:
        return resources()
    except Exception as error:
        trouble = error.message if isinstance(error, VolumeUnavailable) else own_trouble()
        if trouble is None:
            raise
        sickness.tell(trouble)
        raise NodeSick(trouble) from error


def is_recorded(pull_id: str) -> bool:
    """Whether this pull has a row; False if the catalog cannot be read now."""
    try:
        with _any_catalog() as catalog, catalog.begin() as tx:
            return pulls.get(tx, pull_id) is not None
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


def _build(settings: Settings) -> Resources:
    unpack = unpack_with(settings)
    catalog = Catalog(settings.sqlalchemy_url)
    try:
        check(catalog)
        with catalog.begin() as tx:
            identity = volume_id(tx)
        if identity is None:
            raise VolumeUnavailable("The catalog knows no volume yet: run `towline migrate`.")
        volume = Volume(settings.volume_path, identity)
    except BaseException:
        catalog.close()
        raise
    keeper = Keeper(catalog, settings, letting_go.is_set)
    governor = govern(settings)
    registry = RegistryClient(settings, governor)
    return Resources(
        settings, catalog, volume, registry, keeper, governor, sickness=sickness, unpack=unpack
    )


def unpack_with(settings: Settings) -> Unpack | None:
    """The function that decompresses layers; None if diff_ids are not verified.

    Its libraries are an extra, so they are imported only if needed. Raises InvalidArgument if one
    is missing.
    """
    if not settings.verify_diff_ids:
        return None
    try:
        module = import_module("shared.volume.unpacking")
    except ImportError as error:
        raise InvalidArgument(
            f"TOWLINE_VERIFY_DIFF_IDS is true, but Python has no module {error.name}: install "
            "towline[diff-ids], or set it to false."
        ) from error
    return cast(Unpack, module.Unpacking)


def govern(settings: Settings) -> Governor:
    """The rate limiter of this process. It shares the fleet's limits through Redis."""
    limits = Limits(
        settings.registry_connections,
        bandwidth_bytes_per_second=settings.bandwidth_bytes_per_second,
    )
    url = settings.broker_url.get_secret_value() if settings.broker_url else None
    return Governor(connect(url) if url else None, limits)

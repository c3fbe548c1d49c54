"""What a process works with. The only place that knows how to build things, after the fork."""

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

# Of a layer with this digest, size and algorithm of its diff_id.
Unpack = Callable[[Digest, int, str], "Unpacking"]


@dataclass(frozen=True, slots=True)
class Resources:
    """One process's way to the database, the volume and the registries; shared by its threads.

    `unpack`: None where diff_ids are not verified.
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
        """Who works here, for people: host and process."""
        return f"{socket.gethostname()}:{os.getpid()}"

    def node_trouble(self) -> str | None:
        """Why this node cannot work, which all of its processes are told; None where it can."""
        trouble = self.probe.trouble(self.volume.look)
        if trouble is not None:
            self.sickness.tell(trouble)
        return trouble

    def close(self) -> None:
        """Give everything back."""
        self.keeper.close()
        self.registry.close()
        self.governor.close()
        self.volume.close()
        self.catalog.close()


_lock = threading.Lock()
_built: tuple[int, Resources] | None = None


def resources() -> Resources:
    """This process's resources, built at first use.

    Raises CatalogUnavailable, VolumeUnavailable, and InvalidArgument for an unknown schema.
    """
    global _built  # noqa: PLW0603 - one set per process is the point
    with _lock:
        # A forked child inherits its parent's value, but must not share its sockets.
        if _built is None or _built[0] != os.getpid():
            _built = (os.getpid(), _build(Settings.read()))
        return _built[1]


def resources_of_well_node() -> Resources:
    """`resources()` for a step. Raises NodeSick while this node cannot work, which it cannot
    without its volume; SystemExit where the node can and this process alone cannot.
    """
    sickness.refuse()
    if sickness.is_suspect:
        if own_trouble() is not None:
            # A child whose limits are reached: the pool replaces it, and its message comes back.
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
    """Whether a row of this pull stands; False where that cannot be told now."""
    try:
        with _any_catalog() as catalog, catalog.begin() as tx:
            return pulls.get(tx, pull_id) is not None
    except Exception:
        # Whatever keeps it from being asked.
        return False


@contextmanager
def _any_catalog() -> Iterator[Catalog]:
    """This process's own; one for the moment in the parent of a pool, which builds nothing that its
    children would inherit.
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
    """How layers are unpacked, None where they need not be. Raises InvalidArgument where a library
    for it is missing: it is an extra, and nobody else has to load it.
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
    """What this process may ask of registries, as one of the fleet."""
    limits = Limits(
        settings.registry_connections,
        bandwidth_bytes_per_second=settings.bandwidth_bytes_per_second,
    )
    url = settings.broker_url.get_secret_value() if settings.broker_url else None
    return Governor(connect(url) if url else None, limits)

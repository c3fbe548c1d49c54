"""What a step of a pull works with: the database, the volume, the registries of one process.

`workers/resources.py` builds it, after the fork: a child must not share its parent's sockets.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.catalog.database.catalog import Catalog
from shared.oci.digest import Digest
from shared.oci.platform import Platform
from shared.pulls.layers.claimed_layers import ClaimedLayers
from shared.pulls.steps.heartbeat import LeaseRenewer
from shared.rate_limiter import RateLimiter
from shared.registry.client import RegistryClient
from shared.settings import Settings
from shared.volume.store import Volume

if TYPE_CHECKING:
    # Its libraries are an extra.
    from shared.volume.diff_ids.verifier import DiffIdVerifier

# Starts to decompress a layer. Takes its digest, its size, and the algorithm of its diff_id.
Unpack = Callable[[Digest, int, str], "DiffIdVerifier"]


@dataclass(frozen=True, slots=True)
class Context:
    """The database, the volume and the registries for one process, shared by its threads.

    `node_trouble()` probes this node, and returns why the node cannot work; None if it can.
    `unpack` is None if diff_ids are not verified.
    """

    settings: Settings
    catalog: Catalog
    volume: Volume
    registry: RegistryClient
    renewer: LeaseRenewer
    rate_limiter: RateLimiter
    node_trouble: Callable[[], str | None]
    claimed_layers: ClaimedLayers = field(default_factory=ClaimedLayers)
    unpack: Unpack | None = None

    @property
    def default_platform(self) -> Platform:
        """The platform of a pull that names none. Raises InvalidPlatform for a wrong setting."""
        named = self.settings.default_platform
        return Platform.parse(named) if named else Platform.of_machine()

    @property
    def owner(self) -> str:
        """The name of this process as an owner of leases, for people: host and process id."""
        return f"{socket.gethostname()}:{os.getpid()}"

    def close(self) -> None:
        """Stop the lease renewer, and close all connections and the volume."""
        self.renewer.close()
        self.registry.close()
        self.rate_limiter.close()
        self.volume.close()
        self.catalog.close()

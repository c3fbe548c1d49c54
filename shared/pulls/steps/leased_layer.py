"""A layer that this process fetches, under the lease that it has taken."""

from collections.abc import Collection
from dataclasses import dataclass, field

from shared.catalog.layers.pull_layers import PullLayer
from shared.download.progress import Progress
from shared.oci.digest import Digest
from shared.oci.reference import Reference


@dataclass(slots=True, eq=False)
class LeasedLayer:
    """A layer under its lease, until the lease is released or the blob is stored.

    `layer`: as the pull that took the lease lists it. `pull_id`: the pull that the bytes are
    fetched for; the lease renewer changes it when that pull ends while another wants the layer.
    `rivals`: fences of live leases on the same digest from other registries, whose ingests are left
    alone.
    """

    reference: Reference
    layer: PullLayer
    fence: int
    pull_id: str
    progress: Progress = field(default_factory=Progress)
    rivals: Collection[int] = ()

    def __post_init__(self) -> None:
        # What an earlier owner has left on the volume.
        self.progress.offset = self.layer.bytes_done

    @property
    def registry(self) -> str:
        """The upstream registry: together with the digest, the key of the lease."""
        return self.reference.registry

    @property
    def digest(self) -> Digest:
        """The digest of the layer."""
        return self.layer.digest


def ingest_owner(fence: int) -> str:
    """The name under which the holder of this fence owns its ingest, zero-padded so that names sort
    in the order of fences.
    """
    return f"{fence:020d}"

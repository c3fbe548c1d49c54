"""Pulls on their way, made by the catalog's own functions."""

from collections.abc import Sequence

from shared.catalog import blobs, pull_layers, pulls
from shared.catalog.database import Connection
from shared.catalog.pull_layers import PullLayer
from shared.catalog.pull_values import NewPull, PlannedLayer, Pull
from shared.oci.digest import Digest
from tests.integration.catalog import given
from tests.integration.catalog.given import NOON, PLATFORM, TAG, of

HOST = "registry.example"
BASE, TOP = of("base"), of("top")


def record(tx: Connection, pull_id: str = "p", platform: str | None = PLATFORM) -> Pull:
    """A queued pull."""
    return pulls.record(tx, NewPull(pull_id, TAG, platform))


def plan(tx: Connection, digests: Sequence[Digest] = (BASE, TOP), pull_id: str = "p") -> int | None:
    """Plan a pull of these layers, 100 bytes each, as claimed. Its generation."""
    blobs.expect_blobs(tx, digests)
    return pulls.plan(
        tx,
        pull_id,
        manifest_digest=str(of("manifest")),
        index_digest=None,
        config_digest=str(of("config")),
        resolved_at=NOON,
        layers=[PlannedLayer(digest, 100, given.OCI_LAYER, ()) for digest in digests],
    )


def planned(tx: Connection, digests: Sequence[Digest] = (BASE, TOP)) -> None:
    """A pull whose layers are all to be fetched."""
    record(tx)
    plan(tx, digests)


def row(tx: Connection, pull_id: str = "p") -> Pull:
    """A pull as it stands."""
    pull = pulls.get(tx, pull_id)
    assert pull is not None
    return pull


def layer(tx: Connection, digest: Digest = BASE) -> PullLayer:
    """A layer of the pull `p` as it stands."""
    found = pull_layers.get(tx, "p", digest, HOST)
    assert found is not None
    return found

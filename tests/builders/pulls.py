"""Builders of pulls in every state, made of the catalog's own functions."""

from collections.abc import Sequence
from typing import Any

from shared.catalog.admission import admission
from shared.catalog.content import stored_blobs
from shared.catalog.database.catalog import Connection
from shared.catalog.fleet import step_leases
from shared.catalog.layers import fetch_state, messages
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.pull_values import NewPull, PlannedLayer, Pull
from shared.catalog.pulls import lifecycle, start
from shared.oci.digest import Digest
from tests.builders import images as given
from tests.builders.images import NOON, PLATFORM, TAG, of

HOST, OTHER_HOST = "registry.example", "other.example"
REPOSITORY = "team/app"
BASE, TOP = of("base"), of("top")


def record(
    tx: Connection,
    pull_id: str = "p",
    platform: str | None = PLATFORM,
    *,
    age_minutes: int = 0,
    **asked: Any,
) -> Pull:
    """A queued pull that was recorded `age_minutes` ago."""
    place = {"registry": HOST, "repository": REPOSITORY}
    lifecycle.record(tx, NewPull(pull_id, TAG, platform, **{**place, **asked}))
    if age_minutes:
        change(tx, pull_id, f"created_at = now() - interval '{age_minutes} minutes'")
    return row(tx, pull_id)


def admitted(tx: Connection, pull_id: str = "p", **asked: Any) -> Pull:
    """A queued pull that was admitted, whichever pulls wait before it."""
    record(tx, pull_id, **asked)
    change(tx, pull_id, "admitted_at = now(), waiting_for = NULL")
    return row(tx, pull_id)


def begin(tx: Connection, pull_id: str = "p", platform: str = PLATFORM) -> Pull | None:
    """Begin a pull's first step and let its lease go, as a worker does that has to try again."""
    begun = start.start_resolving(tx, pull_id, owner="worker", lease_seconds=30, platform=platform)
    if begun is None:
        return None
    step_leases.end(tx, begun.lease.fence)
    return begun.pull


def plan(
    tx: Connection,
    digests: Sequence[Digest] = (BASE, TOP),
    pull_id: str = "p",
    *,
    size_bytes: int = 100,
) -> int | None:
    """Plan a pull of these layers, each of this claimed size. Returns its generation."""
    list_layers(tx, digests, pull_id, size_bytes=size_bytes)
    return send_all(tx, digests, pull_id)


def send_all(
    tx: Connection, digests: Sequence[Digest] = (BASE, TOP), pull_id: str = "p"
) -> int | None:
    """Give each layer a message, whatever other pulls have sent. Returns the generation."""
    for digest in digests:
        messages.dispatch(tx, pull_id, digest)
    return lifecycle.start_fetching(tx, pull_id)


def follow(tx: Connection, pull_id: str, digests: Sequence[Digest]) -> dict[Digest, str | None]:
    """Admit and plan a pull as workers do. Returns the pull that each layer follows, or None."""
    admitted(tx, pull_id)
    list_layers(tx, digests, pull_id)
    leaders = messages.send_or_follow(tx, pull_id, digests)
    lifecycle.start_fetching(tx, pull_id)
    return leaders


def admit(tx: Connection) -> list[str]:
    """Admit pulls. Returns their ids."""
    return [pull.pull_id for pull in admission.admit(tx)]


def list_layers(
    tx: Connection,
    digests: Sequence[Digest] = (BASE, TOP),
    pull_id: str = "p",
    *,
    size_bytes: int = 100,
) -> None:
    """List the layers of a pull without sending messages for them."""
    stored_blobs.expect_blobs(tx, digests)
    lifecycle.record_plan(
        tx,
        pull_id,
        manifest_digest=str(of("manifest")),
        index_digest=None,
        config_digest=str(of("config")),
        resolved_at=NOON,
        layers=[PlannedLayer(digest, size_bytes, given.OCI_LAYER, ()) for digest in digests],
    )


def planned(tx: Connection, digests: Sequence[Digest] = (BASE, TOP)) -> None:
    """A planned pull that was never admitted; each layer has a message."""
    record(tx)
    plan(tx, digests)


def fetching(
    tx: Connection,
    pull_id: str = "p",
    digests: Sequence[Digest] = (BASE,),
    *,
    size_bytes: int = 100,
    **asked: Any,
) -> None:
    """An admitted and planned pull; each layer has a message."""
    admitted(tx, pull_id, **asked)
    plan(tx, digests, pull_id, size_bytes=size_bytes)


def change(tx: Connection, pull_id: str, assignments: str) -> None:
    """Change columns of a pull's row."""
    tx.exec_driver_sql(f"UPDATE pulls SET {assignments} WHERE id = %s", (pull_id,))


def row(tx: Connection, pull_id: str = "p") -> Pull:
    """The current row of a pull."""
    pull = lifecycle.get(tx, pull_id)
    assert pull is not None
    return pull


def layer(tx: Connection, digest: Digest = BASE, pull_id: str = "p") -> PullLayer:
    """The current row of a pull's layer."""
    state = fetch_state.load(tx, pull_id, digest)
    assert state is not None
    assert state.layer is not None
    return state.layer

"""The facts about one pull, read at one moment; `explanation.py` turns them into sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from shared.catalog.admission import pauses
from shared.catalog.admission.pauses import Pause
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.fleet import fleet_slots
from shared.catalog.fleet.fleet_slots import FleetView
from shared.catalog.layers import pull_layers
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import lifecycle
from shared.catalog.reports import queue_position
from shared.catalog.reports.queue_position import LeaseHolder, QueuePosition
from shared.oci.digest import Digest
from shared.pulls.pull_ids import find_pull
from workers.queues.broker_messages import Messages

# Before a reconciler has counted the fleet's slots.
_NOT_COUNTED = FleetView(None, None, None, None)

# The rate at which pulls are admitted is estimated from the pulls that ended in this time.
LINE_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Facts:
    """What the catalog says about a pull at `now`, by the database's clock.

    `look` fills in what the catalog knows. `speeds`, `messages` and `free_bytes` come from
    elsewhere, and the caller adds them.
    """

    now: datetime
    pull: Pull
    layers: Sequence[PullLayer] = ()
    holders: Mapping[Digest, LeaseHolder] = field(default_factory=dict)
    # The other pulls whose downloads this one waits for, by id.
    leaders: Mapping[str, Pull] = field(default_factory=dict)
    place: QueuePosition | None = None
    step: LeaseHolder | None = None
    leader: LeaseHolder | None = None
    fleet: FleetView = _NOT_COUNTED
    pause: Pause | None = None
    ended_recently: int = 0
    # Bytes per second of each layer that was measured.
    speeds: Mapping[Digest, float] = field(default_factory=dict)
    # None if the queue cannot be reached.
    messages: Messages | None = None
    # Free bytes of the volume; None if it is not mounted on this machine.
    free_bytes: int | None = None
    # The logs of the embedded stack, which starts its own worker and reconciler; None in a fleet.
    stack_logs: Path | None = None


def read_facts(catalog: Catalog, pull_id: str) -> Facts:
    """Read the facts in one transaction. Raises InvalidArgument for an unknown id,
    CatalogUnavailable.
    """
    with catalog.begin() as tx:
        pull = find_pull(tx, pull_id)
        layers = pull_layers.of_pull(tx, pull_id, pull.registry or "")
        holders = queue_position.holders(tx, pull_id)
        return Facts(
            now=lifecycle.clock(tx),
            pull=pull,
            layers=layers,
            holders=holders,
            leaders=_leaders(tx, pull, layers, holders),
            place=queue_position.place(tx, pull_id),
            step=queue_position.step_holder(tx, pull_id),
            leader=queue_position.reconciler_leader(tx),
            fleet=fleet_slots.view(tx),
            pause=pauses.of_pull(tx, pull_id),
            ended_recently=queue_position.ended_within(tx, LINE_SECONDS),
        )


def _leaders(
    tx: Connection, pull: Pull, layers: Sequence[PullLayer], holders: Mapping[Digest, LeaseHolder]
) -> dict[str, Pull]:
    ids = {
        holder.pull_id
        for layer in layers
        if not layer.stored and (holder := holders.get(layer.digest)) is not None and holder.alive
    }
    found = [lifecycle.get(tx, pull_id) for pull_id in sorted(filter(None, ids - {pull.id}))]
    return {leader.id: leader for leader in found if leader is not None}

"""Everything that explains one pull, looked up once; `explaining.py` turns it into sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shared.catalog import chains, fleet, pauses, pull_layers, pulls
from shared.catalog.chains import Holder, Place
from shared.catalog.database import Catalog, Connection
from shared.catalog.fleet import FleetView
from shared.catalog.pauses import Pause
from shared.catalog.pull_layers import PullLayer
from shared.catalog.pull_values import Pull
from shared.oci.digest import Digest
from workers.pulling.known import known
from workers.reconciling.backlog import Messages

_NOBODY_LOOKED = FleetView(None, None, None, None)

# How long the line is looked at to tell how fast it moves.
LINE_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Facts:
    """What the catalog says of a pull by `now`, its own time, and what was found elsewhere."""

    now: datetime
    pull: Pull
    layers: Sequence[PullLayer] = ()
    holders: Mapping[Digest, Holder] = field(default_factory=dict)
    # The pulls whose downloads this one waits for, by id.
    leaders: Mapping[str, Pull] = field(default_factory=dict)
    place: Place | None = None
    step: Holder | None = None
    office: Holder | None = None
    fleet: FleetView = _NOBODY_LOOKED
    pause: Pause | None = None
    ended_lately: int = 0
    # Bytes a second by layer, where they were measured.
    speeds: Mapping[Digest, float] = field(default_factory=dict)
    # None where the queue could not be asked.
    messages: Messages | None = None
    # Of the volume, where it is mounted here.
    free_bytes: int | None = None


def look(catalog: Catalog, pull_id: str) -> Facts:
    """What the catalog knows. Raises InvalidArgument for an unknown id, CatalogUnavailable."""
    with catalog.begin() as tx:
        pull = known(tx, pull_id)
        layers = pull_layers.of_pull(tx, pull_id, pull.registry or "")
        holders = chains.holders(tx, pull_id)
        return Facts(
            now=pulls.clock(tx),
            pull=pull,
            layers=layers,
            holders=holders,
            leaders=_leaders(tx, pull, layers, holders),
            place=chains.place(tx, pull_id),
            step=chains.step(tx, pull_id),
            office=chains.office(tx),
            fleet=fleet.view(tx),
            pause=pauses.of_pull(tx, pull_id),
            ended_lately=chains.ended_within(tx, LINE_SECONDS),
        )


def _leaders(
    tx: Connection, pull: Pull, layers: Sequence[PullLayer], holders: Mapping[Digest, Holder]
) -> dict[str, Pull]:
    ids = {
        holder.pull_id
        for layer in layers
        if not layer.stored and (holder := holders.get(layer.digest)) is not None and holder.alive
    }
    found = [pulls.get(tx, each) for each in sorted(filter(None, ids - {pull.id}))]
    return {each.id: each for each in found if each is not None}

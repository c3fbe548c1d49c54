"""What the catalog says about one pull at one moment; `explanation.py` turns it into sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from shared.catalog.admission import pauses
from shared.catalog.admission.pauses import Pause
from shared.catalog.database.catalog import Catalog
from shared.catalog.layers import pull_layers
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import lifecycle
from shared.catalog.reports import queue_position
from shared.catalog.reports.queue_position import QueuePosition
from shared.oci.digest import Digest
from shared.pulls.pull_ids import find_pull

# The rate at which pulls are admitted is estimated from the pulls that ended in this time.
ENDED_WITHIN_SECONDS = 600


@dataclass(frozen=True, slots=True)
class PullSnapshot:
    """A pull, its layers, and what they wait for, at `now` by the database's clock."""

    now: datetime
    pull: Pull
    layers: Sequence[PullLayer] = ()
    # The pulls that this one waits for, by id.
    others: Mapping[str, Pull] = field(default_factory=dict)
    place: QueuePosition | None = None
    pause: Pause | None = None
    # The worker that resolves or links the pull.
    step_owner: str | None = None
    reconciler: str | None = None
    ended_recently: int = 0
    # Bytes per second of each layer that was measured (`download_speeds.py`).
    speeds: Mapping[Digest, float] = field(default_factory=dict)
    # The logs of the embedded stack, which starts its own worker and reconciler; None in a fleet.
    stack_logs: Path | None = None


def read_snapshot(
    catalog: Catalog,
    pull_id: str,
    speeds: Mapping[Digest, float] | None = None,
    stack_logs: Path | None = None,
) -> PullSnapshot:
    """Read the pull in one transaction. Raises InvalidArgument for an unknown id."""
    with catalog.begin() as tx:
        pull = find_pull(tx, pull_id)
        layers = pull_layers.of_pull(tx, pull_id, pull.registry or "")
        others = [lifecycle.get(tx, other) for other in sorted(_waited_for(pull, layers))]
        return PullSnapshot(
            now=lifecycle.clock(tx),
            pull=pull,
            layers=layers,
            others={other.id: other for other in others if other is not None},
            place=queue_position.place(tx, pull_id),
            pause=pauses.of_pull(tx, pull_id),
            step_owner=queue_position.step_owner(tx, pull_id),
            reconciler=queue_position.leading_reconciler(tx),
            ended_recently=queue_position.ended_within(tx, ENDED_WITHIN_SECONDS),
            speeds=speeds or {},
            stack_logs=stack_logs,
        )


def _waited_for(pull: Pull, layers: Sequence[PullLayer]) -> set[str]:
    reasons = [pull.waiting_for, *(layer.waiting_for for layer in layers)]
    named = {str(reason["detail"]) for reason in reasons if reason and reason["cause"] == "pull"}
    return (named | {layer.leader for layer in layers if layer.leader}) - {pull.id}

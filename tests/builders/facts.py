"""Builds facts about a pull, as the catalog would return them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.catalog.admission.pauses import Pause
from shared.catalog.fleet.fleet_slots import FleetView
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.pull_values import Pull
from shared.catalog.reports.queue_position import LeaseHolder
from shared.oci.digest import Digest
from workers.doctor.explanation import Explanation, explain
from workers.doctor.facts import Facts
from workers.queues.broker_messages import Messages

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(seconds=40)
DIGEST = Digest.of(b"layer")
OFFICE = LeaseHolder("host:1", 5.0, 1)
ALIVE = LeaseHolder("host:77", 20.0, 2, pull_id="p", bytes_done=40)

_FIELDS: dict[str, Any] = dict.fromkeys(Pull.__dataclass_fields__)
_PULL = Pull(
    **{
        **_FIELDS,
        "id": "p",
        "reference": "registry.example/team/app:1",
        "platform": "linux/amd64",
        "policy": "always",
        "state": "fetching",
        "priority": 5,
        "registry": "registry.example",
        "repository": "team/app",
        "generation": 1,
        "bytes_done": 0,
        "attempts": 0,
        "failures": 0,
        "created_at": NOW - timedelta(minutes=5),
        "admitted_at": NOW - timedelta(minutes=4),
    }
)


def pull(**changes: Any) -> Pull:
    """A pull that is being fetched, with these changes."""
    return replace(_PULL, **changes)


def layer(**changes: Any) -> PullLayer:
    """A layer of 100 bytes without a lease, with these changes."""
    plain = PullLayer(
        digest=DIGEST,
        size_bytes=100,
        media_type="",
        urls=(),
        source=None,
        bytes_fetched=0,
        attempts=0,
        failures=0,
        generation=1,
        dispatched_at=NOW,
        not_before=None,
        waiting_for=None,
        stored=False,
        bytes_done=0,
        owner=None,
        leader=None,
    )
    return replace(plain, **changes)


def waits(cause: str, detail: str = "why") -> dict[str, Any]:
    """Columns of a pull or layer that waits until LATER."""
    reason = {"cause": cause, "detail": detail, "until": LATER.isoformat()}
    return {"waiting_for": reason, "not_before": LATER}


def pause(scope: str = "fleet", name: str = "") -> Pause:
    """A pause since noon."""
    return Pause(scope, name, NOW)


def story(of: Pull | None = None, *layers: PullLayer, **changes: Any) -> Explanation:
    """The explanation of a pull in a fleet with workers, a reconciler and an empty queue."""
    plain = Facts(
        now=NOW,
        pull=of or pull(),
        layers=layers,
        leader=OFFICE,
        fleet=FleetView(4, 4, NOW, "epoch"),
        messages=Messages(),
    )
    return explain(replace(plain, **changes))

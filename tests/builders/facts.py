"""Builds what the catalog says about a pull."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.catalog.admission.pauses import Pause
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.pull_values import Pull
from shared.oci.digest import Digest
from workers.doctor.explanation import Explanation, explain
from workers.doctor.pull_snapshot import PullSnapshot

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(seconds=40)
DIGEST = Digest.of(b"layer")

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


def waits(cause: str, detail: str = "why", until: datetime = LATER) -> dict[str, Any]:
    """Columns of a pull or layer that waits."""
    reason = {"cause": cause, "detail": detail, "until": until.isoformat()}
    return {"waiting_for": reason, "not_before": until}


def pause(scope: str = "fleet", name: str = "") -> Pause:
    """A pause since noon."""
    return Pause(scope, name, NOW)


def explained(of: Pull | None = None, *layers: PullLayer, **changes: Any) -> Explanation:
    """The explanation of a pull in a fleet with a reconciler."""
    plain = PullSnapshot(now=NOW, pull=of or pull(), layers=layers, reconciler="host:1")
    return explain(replace(plain, **changes))

"""Values of a pull: as requested, its planned layers, and its row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from shared.catalog.model.pull_tables import FINAL_STATES
from shared.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class NewPull:
    """A pull as it was requested. `platform` None: the default of the worker that plans it.

    `callbacks`: Celery's callbacks, to be sent once the pull is answered
    (`workers/messages/callbacks.py`).
    """

    id: str
    reference: str
    platform: str | None
    policy: str = "always"
    priority: int = 5
    requested_by: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    retry_of: str | None = None
    registry: str | None = None
    repository: str | None = None
    deadline_seconds: float | None = None
    callbacks: Mapping[str, Any] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """A distinct layer of a pull, as its manifest claims it. Nothing of it is verified."""

    digest: Digest
    size_bytes: int
    media_type: str
    urls: Sequence[str]


@dataclass(frozen=True, slots=True)
class Pull:
    """A row of `pulls`. `docs/catalog.md` and `pull_tables.py` say what the columns mean."""

    id: str
    reference: str
    platform: str | None
    policy: str
    state: str
    waiting_for: Mapping[str, Any] | None
    priority: int
    requested_by: str | None
    labels: Mapping[str, str] | None
    retry_of: str | None
    registry: str | None
    repository: str | None
    generation: int
    admitted_at: datetime | None
    dispatched_at: datetime | None
    manifest_digest: str | None
    index_digest: str | None
    config_digest: str | None
    bytes_total: int | None
    bytes_done: int
    error_class: str | None
    error_code: str | None
    error_message: str | None
    attempts: int
    failures: int
    not_before: datetime | None
    deadline_at: datetime | None
    created_at: datetime
    resolved_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    answered_at: datetime | None
    receipt: dict[str, Any] | None
    layout_unsettled: bool

    @property
    def has_ended(self) -> bool:
        """Whether this pull has ended."""
        return self.state in FINAL_STATES

    def resolved(
        self, manifest_digest: str, index_digest: str | None, resolved_at: datetime
    ) -> "Pull":
        """Return a copy of this pull that is resolved to this manifest. The row stays as it is."""
        return replace(
            self,
            manifest_digest=manifest_digest,
            index_digest=index_digest,
            resolved_at=resolved_at,
        )

"""Starting a pull's first step: its step lease and its row, in one statement."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text

from shared.catalog.admission.pauses import IS_PAUSED
from shared.catalog.database.catalog import Connection
from shared.catalog.fleet import step_leases
from shared.catalog.fleet.step_leases import StepLease
from shared.catalog.model.pull_rows import COLUMNS
from shared.catalog.model.pull_values import Pull

_BEGIN = text(
    f"""
    WITH lease AS (
        INSERT INTO step_leases (name, owner, fence, expires_at)
        VALUES (:name, :owner, nextval('fences'), clock_timestamp() + :life)
        ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, fence = excluded.fence,
            expires_at = excluded.expires_at,
            starts_without_progress = step_leases.starts_without_progress + 1
            WHERE step_leases.expires_at <= clock_timestamp()
        RETURNING fence, starts_without_progress AS starts
    )
    UPDATE pulls p SET state = 'resolving', platform = coalesce(p.platform, :platform),
        started_at = coalesce(p.started_at, clock_timestamp()), attempts = p.attempts + 1,
        admitted_at = coalesce(p.admitted_at, clock_timestamp()), waiting_for = NULL,
        not_before = NULL
    FROM lease
    WHERE p.id = :pull_id AND p.state IN ('queued', 'resolving') AND NOT {IS_PAUSED}
    RETURNING {", ".join(f"p.{column.name}" for column in COLUMNS)},
        lease.fence AS lease_fence, lease.starts AS lease_starts, clock_timestamp() AS now
    """
)


@dataclass(frozen=True, slots=True)
class StartedPull:
    """A pull that the caller resolves now, under this lease. `now`: the database's time."""

    pull: Pull
    lease: StepLease
    now: datetime


def start_resolving(
    tx: Connection, pull_id: str, *, owner: str, lease_seconds: float, platform: str
) -> StartedPull | None:
    """Take the step lease of a pull and begin to resolve it, which counts as one more attempt.

    `platform` is used for a pull that names none. Returns None where the pull is planned already,
    is paused, has ended, or where another worker holds its lease. The caller must then roll back:
    the statement may have taken the lease although the pull cannot begin.
    """
    name = step_leases.of_pull(pull_id)
    row = tx.execute(
        _BEGIN,
        {
            "name": name,
            "owner": owner,
            "life": timedelta(seconds=lease_seconds),
            "platform": platform,
            "pull_id": pull_id,
        },
    ).one_or_none()
    if row is None:
        return None
    pull = Pull(**{column.name: row._mapping[column.name] for column in COLUMNS})
    return StartedPull(pull, StepLease(name, row.lease_fence, row.lease_starts), row.now)

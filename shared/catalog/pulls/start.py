"""Starting a pull's first step: its step lease and its row, in one statement."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import bindparam, func, update
from sqlalchemy.orm import aliased

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import constant
from shared.catalog.fleet import step_leases
from shared.catalog.fleet.step_leases import StepLease
from shared.catalog.model import waiting_for
from shared.catalog.model.fleet_tables import StepLeases
from shared.catalog.model.predicates import has_no_plan, is_paused, is_step_of
from shared.catalog.model.pull_rows import COLUMNS
from shared.catalog.model.pull_tables import Pulls
from shared.catalog.model.pull_values import Pull

_now = func.clock_timestamp()
# The lease, if this statement has taken it.
_lease = aliased(StepLeases, step_leases.TAKE.cte("lease"))
_START = (
    update(Pulls)
    .where(
        Pulls.id == bindparam("pull_id"),
        is_step_of(_lease, Pulls.id),
        has_no_plan(Pulls),
        ~is_paused(Pulls),
    )
    .values(
        state=constant("resolving"),
        platform=func.coalesce(Pulls.platform, bindparam("platform")),
        started_at=func.coalesce(Pulls.started_at, _now),
        attempts=Pulls.attempts + constant(1),
        admitted_at=func.coalesce(Pulls.admitted_at, _now),
        **waiting_for.NOTHING,
    )
    .returning(
        *COLUMNS,
        _lease.fence.label("lease_fence"),
        _lease.starts_without_progress.label("lease_starts"),
        _now.label("now"),
    )
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
        _START,
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

"""Reports of downloads: how far they are, and that their owners are alive.

Each heartbeat records the progress of all downloads of a process, and renews their leases.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    Executable,
    Interval,
    Text,
    bindparam,
    case,
    func,
    update,
)

from shared.catalog.database.catalog import Connection
from shared.catalog.database.expressions import by_key, parameter_rows
from shared.catalog.model.pull_tables import Leases
from shared.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Report:
    """The progress of a download under `fence`.

    `renew` is False for a download that has shown no sign of life within the stall time: its
    progress is recorded, but its lease runs out.
    """

    registry: str
    digest: Digest
    fence: int
    bytes_done: int
    renew: bool


def _renew() -> Executable:
    now, life = func.clock_timestamp(), bindparam("life", type_=Interval())
    report = parameter_rows(
        "report",
        registry=Text(),
        digest=Text(),
        fence=BigInteger(),
        bytes_done=BigInteger(),
        renew=Boolean(),
    )
    return (
        update(Leases)
        .where(
            Leases.registry == report.c.registry,
            Leases.digest == report.c.digest,
            Leases.fence == report.c.fence,
            by_key(Leases.owner.is_not(None)),
        )
        .values(
            bytes_done=report.c.bytes_done,
            renewed_at=case((report.c.renew, now), else_=Leases.renewed_at),
            expires_at=case((report.c.renew, now + life), else_=Leases.expires_at),
        )
        .returning(Leases.fence)
    )


_RENEW = _renew()


def renew(tx: Connection, reports: Sequence[Report], lease_seconds: float) -> set[int]:
    """Record the progress of downloads and extend their leases, as their reports say.

    Returns the fences that are still valid. The owner of any other fence has lost its lease and
    must stop. The rows are passed in key order.
    """
    ordered = sorted(reports, key=lambda report: (report.registry, str(report.digest)))
    values = {
        "report_registry": [report.registry for report in ordered],
        "report_digest": [str(report.digest) for report in ordered],
        "report_fence": [report.fence for report in ordered],
        "report_bytes_done": [report.bytes_done for report in ordered],
        "report_renew": [report.renew for report in ordered],
    }
    rows = tx.execute(_RENEW, {**values, "life": timedelta(seconds=lease_seconds)})
    return set(rows.scalars())

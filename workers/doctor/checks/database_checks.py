"""Checks of PostgreSQL: the server, the schema, and the clock."""

import time
from datetime import UTC, datetime

from shared.catalog.reports import doctor_checks
from shared.catalog.schema.revision import check
from shared.errors import CatalogUnavailable, InvalidArgument
from workers.doctor.check_result import Finding, ok, problem, warning
from workers.doctor.checked_fleet import CheckedFleet

_OLDEST_SERVER = 150000
_CLOCKS_APART_SECONDS = 2.0


def server(fleet: CheckedFleet) -> Finding:
    """Whether the database answers, accepts writes, and is new enough."""
    began = time.monotonic()
    try:
        with fleet.catalog.begin() as tx:
            found = doctor_checks.server(tx)
    except CatalogUnavailable as error:
        return problem(str(error))
    milliseconds = (time.monotonic() - began) * 1000
    version = f"PostgreSQL {found.version_number // 10000}.{found.version_number % 10000}"
    if found.version_number < _OLDEST_SERVER:
        return problem(f"{version} is too old: upgrade it to 15 or newer.")
    if found.read_only:
        return problem(
            f"{version} is read-only, so no pull continues. If TOWLINE_DATABASE_URL leads to a "
            "standby, promote it or set the URL to the primary; if its disk is full, free it."
        )
    return ok(f"{version} answers in {milliseconds:.0f} ms.")


def schema(fleet: CheckedFleet) -> Finding:
    """Whether this version of towline can work on the schema."""
    try:
        check(fleet.catalog)
    except (InvalidArgument, CatalogUnavailable) as error:
        return problem(str(error))
    return ok("This version can work on the schema.")


def clock(fleet: CheckedFleet) -> Finding:
    """Whether this machine's clock agrees with the database's, which decides when leases expire."""
    before = datetime.now(UTC)
    with fleet.catalog.begin() as tx:
        server_now = doctor_checks.server(tx).now
    after = datetime.now(UTC)
    # The server read its clock at some time between the two.
    apart = max((before - server_now).total_seconds(), (server_now - after).total_seconds(), 0.0)
    if apart > _CLOCKS_APART_SECONDS:
        return warning(
            f"This machine's clock and the database's are {apart:.1f} s apart. Leases use the "
            "database's clock, but logs and certificates do not: synchronise the clocks."
        )
    return ok(f"This machine's clock and the database's agree within {apart:.1f} s.")

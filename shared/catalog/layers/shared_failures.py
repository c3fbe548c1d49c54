"""Failures that several pulls share: pulls that waited for another pull's attempt fail with it.

Otherwise each of them would make its own attempts at a registry that fails, one after the other.
"""

from datetime import timedelta

from sqlalchemy import (
    Boolean,
    Executable,
    Interval,
    Text,
    and_,
    bindparam,
    case,
    func,
    or_,
    select,
    update,
)
from sqlalchemy.orm import aliased

from shared.catalog.database.catalog import Connection
from shared.catalog.model.expressions import constant
from shared.catalog.model.predicates import is_due, is_in
from shared.catalog.model.pull_tables import PullLayers, Pulls
from shared.catalog.model.waiting_for import reason
from shared.oci.digest import Digest


# `same`: the row waited for this very attempt. It has the same repository and the same claim of the
# size, and no time of its own to wait for. `sooner`: it would be tried before the delay is over.
def _share() -> Executable:
    digest = bindparam("of_digest", type_=Text())
    until = func.statement_timestamp() + bindparam("delay", type_=Interval())
    own, mine = aliased(Pulls, name="own"), aliased(PullLayers, name="mine")
    other, theirs = aliased(Pulls, name="other"), aliased(PullLayers, name="theirs")
    same = and_(
        other.repository == own.repository,
        theirs.size_bytes == mine.size_bytes,
        is_due(theirs),
    )
    sooner = or_(theirs.not_before.is_(None), theirs.not_before < until)
    met = (
        select(other.id, same.label("same"), sooner.label("sooner"))
        .join_from(own, mine, mine.pull_id == own.id)
        .join(other, and_(other.registry == own.registry, other.id != own.id))
        .join(theirs, and_(theirs.pull_id == other.id, theirs.digest == mine.digest))
        .where(own.id == bindparam("of_pull"), mine.digest == digest, is_in(other, "fetching"))
        .order_by(other.id)
        .with_for_update(of=theirs)
        .cte("met")
    )
    return (
        update(PullLayers)
        .where(
            PullLayers.pull_id == met.c.id,
            PullLayers.digest == digest,
            or_(met.c.same, and_(bindparam("whole_registry", type_=Boolean()), met.c.sooner)),
        )
        .values(
            failures=PullLayers.failures + case((met.c.same, constant(1)), else_=constant(0)),
            not_before=until,
            waiting_for=reason(bindparam("cause"), until, bindparam("detail")),
        )
        .returning(met.c.id, PullLayers.failures, met.c.same)
    )


_SHARE = _share()


def share(
    tx: Connection,
    pull_id: str,
    digest: Digest,
    *,
    cause: str,
    detail: str,
    seconds: float,
    whole_registry: bool,
) -> list[tuple[str, int]]:
    """Count a failed attempt against the pulls that waited for it, and make them wait.

    These are the pulls of the same repository and with the same claim of the layer's size. Returns
    their ids with their failures in a row. `whole_registry`: other pulls of the registry that want
    the layer wait, too, but nothing is counted against them.
    """
    rows = tx.execute(
        _SHARE,
        {
            "of_pull": pull_id,
            "of_digest": str(digest),
            "cause": cause,
            "detail": detail,
            "delay": timedelta(seconds=seconds),
            "whole_registry": whole_registry,
        },
    )
    return [(row.id, row.failures) for row in rows if row.same]

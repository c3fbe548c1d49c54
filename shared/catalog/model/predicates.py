"""What is true of a row: each rule once, as a condition over a table or an alias of it.

    select(Pulls.id).where(is_open(Pulls), ~is_paused(Pulls)).order_by(*by_turn(Pulls))

States are literals, as in the conditions of the partial indexes (`expressions.py`).

There are two rules for a live lease on a blob. `may_be_alive` decides whether another worker may
take it: after a start of the database server no lease counts as expired for one lease time, since
no owner could renew while the server was down. `is_alive` leaves that grace out, and serves all
other questions: whom to follow, what to show, how many slots are taken. In the grace its answer may
be wrong, which costs a message too many and never a second download.
"""

from datetime import timedelta
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    SQLColumnExpression,
    and_,
    case,
    false,
    func,
    literal_column,
    or_,
    select,
)

from shared.catalog.database.expressions import constant
from shared.catalog.model.content_tables import Blobs
from shared.catalog.model.fleet_tables import Pauses, RegistryHolds, StepLeases
from shared.catalog.model.pull_tables import FINAL_STATES, Leases, PullLayers, Pulls

_FINAL = [constant(state) for state in FINAL_STATES]
_clock = func.clock_timestamp


# Pulls, by where they are.


def is_open(pulls: type[Pulls]) -> ColumnElement[bool]:
    """The pull has not ended."""
    return pulls.state.not_in(_FINAL)


def is_final(pulls: type[Pulls]) -> ColumnElement[bool]:
    """The pull has ended: complete, failed or cancelled."""
    return pulls.state.in_(_FINAL)


def is_in(pulls: type[Pulls], *states: str) -> ColumnElement[bool]:
    """The pull is in one of these states."""
    if len(states) == 1:
        return pulls.state == constant(states[0])
    return pulls.state.in_([constant(state) for state in states])


def is_waiting(pulls: type[Pulls]) -> ColumnElement[bool]:
    """The pull waits for its turn: queued and not admitted."""
    return is_in(pulls, "queued") & pulls.admitted_at.is_(None)


def is_under_way(pulls: type[Pulls]) -> ColumnElement[bool]:
    """The pull is admitted and has not ended."""
    return pulls.admitted_at.is_not(None) & is_open(pulls)


def has_no_plan(pulls: type[Pulls]) -> ColumnElement[bool]:
    """The pull is not resolved yet: it has no layers."""
    return is_in(pulls, "queued", "resolving")


def is_planned(pulls: type[Pulls]) -> ColumnElement[bool]:
    """The pull has its layers listed, and has not ended."""
    return is_in(pulls, "fetching", "linking")


def by_turn(pulls: type[Pulls]) -> tuple[ColumnElement[Any], ...]:
    """The order in which pulls are served: by priority, then by age."""
    return pulls.priority.desc(), pulls.created_at.asc()


# What keeps a pull or a layer from going on.


def is_due(row: type[Pulls] | type[PullLayers]) -> ColumnElement[bool]:
    """The row has no time to wait for, or that time has passed.

    No index can serve this, since it compares with `clock_timestamp`: use it for rows that the
    statement finds by another index or by their keys.
    """
    return or_(row.not_before.is_(None), row.not_before <= _clock())


# What is paused and the command that ends it, for operators: `Pause.sentence` has the same text.
FLEET_IS_PAUSED = "the fleet is paused: run `towline resume`"
SCOPE_IS_PAUSED = "the {scope} {name} is paused: run `towline resume --{scope} {name}`"


def is_paused(pulls: type[Pulls]) -> ColumnElement[bool]:
    """A pause applies to the pull."""
    return _exists_in(Pauses, pause_applies(pulls))


def pause_applies(pulls: type[Pulls]) -> ColumnElement[bool]:
    """The row of `Pauses` applies to the pull."""
    return or_(
        Pauses.scope == constant("fleet"),
        and_(Pauses.scope == constant("registry"), Pauses.name == pulls.registry),
        and_(
            Pauses.scope == constant("requester"),
            Pauses.name == func.coalesce(pulls.requested_by, constant("")),
        ),
    )


def paused_sentence(pulls: type[Pulls]) -> ColumnElement[str | None]:
    """The sentence of the first pause that applies to the pull; NULL without one."""
    scoped = func.replace(constant(SCOPE_IS_PAUSED), constant("{scope}"), Pauses.scope)
    sentence = case(
        (Pauses.scope == constant("fleet"), constant(FLEET_IS_PAUSED)),
        else_=func.replace(scoped, constant("{name}"), Pauses.name),
    )
    return (
        select(sentence)
        .where(pause_applies(pulls))
        .order_by(Pauses.scope)
        .limit(constant(1))
        .correlate_except(Pauses)
        .scalar_subquery()
    )


def is_held(registry: SQLColumnExpression[str | None]) -> ColumnElement[bool]:
    """The registry asked the fleet to wait, and the time has not passed."""
    return _exists_in(RegistryHolds, hold_applies(registry))


def hold_applies(registry: SQLColumnExpression[str | None]) -> ColumnElement[bool]:
    """The row of `RegistryHolds` is that of this registry, and its time has not passed."""
    return and_(RegistryHolds.registry == registry, RegistryHolds.until > _clock())


# Blobs and leases.


def is_stored(blobs: type[Blobs]) -> ColumnElement[bool]:
    """The blob is on the volume, verified."""
    return blobs.stored_at.is_not(None)


def is_missing(blobs: type[Blobs]) -> ColumnElement[bool]:
    """The blob is not on the volume; true also where an outer join found no row."""
    return blobs.stored_at.is_(None)


def is_whole(pull_id: SQLColumnExpression[str]) -> ColumnElement[bool]:
    """Every layer of the pull is stored; true also for a pull without layers."""
    missing = (
        select(PullLayers.digest)
        .outerjoin(Blobs, Blobs.digest == PullLayers.digest)
        .where(PullLayers.pull_id == pull_id, is_missing(Blobs))
        .correlate_except(PullLayers, Blobs)
    )
    return ~missing.exists()


def is_alive(leases: type[Leases]) -> ColumnElement[bool]:
    """The lease has an owner and has not expired."""
    return and_(leases.owner.is_not(None), leases.expires_at > _clock())


def may_be_alive(
    leases: type[Leases], life: timedelta | BindParameter[timedelta]
) -> ColumnElement[bool]:
    """The lease has an owner that may still work, so no other worker may take the lease.

    `life`: the lease time.
    """
    return and_(leases.owner.is_not(None), free_at(leases, life) > _clock())


def free_at(leases: type[Leases], life: timedelta | BindParameter[timedelta]) -> ColumnElement[Any]:
    """The time at which another worker may take the lease, unless it is renewed before."""
    return func.greatest(leases.expires_at, func.pg_postmaster_start_time() + life)


def is_step_of(step: type[StepLeases], pull_id: SQLColumnExpression[str]) -> ColumnElement[bool]:
    """The step lease is that of the pull's steps, live or not."""
    return step.name == constant("pull/").concat(pull_id)


def is_step_alive(step: type[StepLeases]) -> ColumnElement[bool]:
    """The step lease has not expired. False where an outer join found no row."""
    return func.coalesce(step.expires_at > _clock(), false())


def has_step(pulls: type[Pulls]) -> ColumnElement[bool]:
    """A worker resolves or links the pull now."""
    return _exists_in(
        StepLeases, is_step_of(StepLeases, pulls.id), StepLeases.expires_at > _clock()
    )


def _exists_in(table: type[Any], *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """A row of this table alone meets the conditions; other tables are those of the statement."""
    return (
        select(literal_column("1"))
        .select_from(table)
        .where(*conditions)
        .correlate_except(table)
        .exists()
    )

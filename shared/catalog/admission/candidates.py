"""Which waiting pulls may be admitted next: the oldest of each priority, registry and requester.

There may be thousands of waiting pulls, so they are not read in full. Recursive queries leap over
the index `pulls_waiting_by_requester_idx`: one row per priority and registry, then one row per
requester of each, however many pulls a requester has.
"""

from sqlalchemy import (
    CTE,
    ColumnElement,
    FromClause,
    Integer,
    and_,
    bindparam,
    func,
    select,
    true,
    tuple_,
    union,
)

from shared.catalog.database.expressions import constant
from shared.catalog.model.predicates import is_due, is_held, is_waiting
from shared.catalog.model.pull_tables import Pulls

# How many requesters of one priority and registry are compared. With more, fairness between them is
# approximate. The oldest pulls are candidates in any case, so no requester waits forever.
_REQUESTERS = 500

PLACES = bindparam("places", type_=Integer)
LEAST_PRIORITY = bindparam("least_priority", type_=Integer)


def _registry_of(pull: type[Pulls]) -> ColumnElement[str]:
    """The registry, as in the index `pulls_waiting_by_requester_idx`."""
    return func.coalesce(pull.registry, constant(""))


def requester_of(pull: type[Pulls]) -> ColumnElement[str]:
    """The requester, as in the index `pulls_waiting_by_requester_idx`."""
    return func.coalesce(pull.requested_by, constant(""))


def _registries() -> CTE:
    """Return each priority and registry that pulls wait with."""
    first = (
        select(Pulls.priority, _registry_of(Pulls).label("registry"))
        .where(is_waiting(Pulls), Pulls.priority >= LEAST_PRIORITY)
        .order_by(Pulls.priority.desc(), _registry_of(Pulls).desc())
        .limit(constant(1))
    )
    found = first.cte("registries", recursive=True)
    here = tuple_(found.c.priority, found.c.registry)
    is_behind = tuple_(Pulls.priority, _registry_of(Pulls)) < here
    behind = first.where(is_behind).lateral("behind")
    return found.union_all(select(behind).select_from(found).join(behind, true()))


def _requesters(registries: CTE) -> FromClause:
    """Return the requesters of a row of `registries`, and how many they are, up to 500."""
    first = (
        select(requester_of(Pulls).label("requester"))
        .where(_waits_with(registries))
        .order_by(requester_of(Pulls).desc())
        .limit(constant(1))
        .correlate_except(Pulls)
    )
    found = first.cte("requesters", recursive=True, nesting=True)
    behind = first.where(requester_of(Pulls) < found.c.requester).lateral("behind")
    found = found.union_all(select(behind).select_from(found).join(behind, true()))
    few = select(found.c.requester).limit(constant(_REQUESTERS)).subquery("few")
    return select(few.c.requester, func.count().over().label("number")).lateral("requester")


def _waits_with(registries: CTE) -> ColumnElement[bool]:
    """The pull waits with the priority and the registry of a row of `registries`."""
    return and_(
        is_waiting(Pulls),
        Pulls.priority == registries.c.priority,
        _registry_of(Pulls) == registries.c.registry,
    )


def candidates() -> CTE:
    """Return, per registry, the oldest pulls of each requester, and the oldest pulls of all."""
    registries = _registries()
    requester = _requesters(registries)
    # The candidates carry the columns by which they are ranked. If a second lookup by id fetched
    # those columns, PostgreSQL would read the whole table.
    oldest = (
        select(Pulls.id, Pulls.priority, Pulls.requested_by, Pulls.registry, Pulls.created_at)
        .where(_waits_with(registries), is_due(Pulls))
        .order_by(Pulls.created_at)
    )
    most = func.greatest(constant(4) * PLACES // requester.c.number, constant(1))
    of_requester = (
        oldest.where(requester_of(Pulls) == requester.c.requester)
        .limit(func.least(PLACES, most))
        .lateral("of_requester")
    )
    # True of every pull: it selects an index. `pulls_waiting_by_age_idx` has this condition, so
    # PostgreSQL can use that index only for the query by age. For the query by requester it would
    # be slow: it would read all waiting pulls of the registry.
    by_age = Pulls.generation >= constant(0)
    of_all = oldest.where(by_age).limit(PLACES).lateral("of_all")
    may_ask = ~is_held(registries.c.registry)
    return union(
        select(of_requester)
        .select_from(registries)
        .join(requester, true())
        .join(of_requester, true())
        .where(may_ask),
        select(of_all).select_from(registries).join(of_all, true()).where(may_ask),
    ).cte("candidates")

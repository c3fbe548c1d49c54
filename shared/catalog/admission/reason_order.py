"""Which reason a pull waits for: tables of reasons, of which the first row that applies wins.

NULL means that something moves, and that there is nothing to wait for.
"""

from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    FromClause,
    SQLColumnExpression,
    bindparam,
    case,
    func,
    null,
    select,
    true,
)
from sqlalchemy.orm import aliased

from shared.catalog.database.expressions import by_key, constant
from shared.catalog.model.content_tables import Blobs
from shared.catalog.model.fleet_tables import Nodes, RegistryHolds
from shared.catalog.model.predicates import (
    has_step,
    hold_applies,
    is_due,
    is_in,
    is_missing,
    paused_sentence,
)
from shared.catalog.model.pull_tables import PullLayers, Pulls
from shared.catalog.model.waiting_for import NEXT_CHECK, cause_of, detail_of, reason


def of_admitted(layers: FromClause) -> ColumnElement[Any]:
    """Why an admitted pull waits. `layers`: what its layers add up to (`waiting_reasons.py`)."""
    until = _checked_again(Pulls.admitted_at)

    def turn(detail: str) -> ColumnElement[Any]:
        return reason(constant("turn"), until, constant(detail))

    def no_worker(queue: str) -> ColumnElement[Any]:
        detail = constant(f"no worker consumes {queue}").concat(_sick_node())
        return reason(constant("no_worker"), until, detail)

    # Nothing to fetch: before the plan, and once all layers are stored.
    of_its_step = case(
        (~is_due(Pulls), _own_reason()),
        (has_step(Pulls), null()),
        (bindparam("no_pull_worker", type_=Boolean), no_worker("towline.pulls")),
        else_=turn("its message is in the queue"),
    )
    no_layer_worker = layers.c.may_be_fetched & bindparam("no_layer_worker", type_=Boolean)
    of_its_layers = case(
        (layers.c.is_fetched, null()),
        (layers.c.fetched_for.is_not(None), reason(constant("pull"), until, layers.c.fetched_for)),
        (no_layer_worker, no_worker("towline.layers")),
        (~layers.c.may_be_fetched & layers.c.layers_reason.is_not(None), layers.c.layers_reason),
        else_=func.coalesce(_followed(until), turn("its layers are in the queue")),
    )
    return case(
        _paused(Pulls, until),
        (layers.c.missing == constant(0), of_its_step),
        else_=of_its_layers,
    )


def of_waiting() -> ColumnElement[Any]:
    """Why a pull that is not admitted waits."""
    until = _checked_again(Pulls.created_at)
    return case(
        _paused(Pulls, until),
        (~is_due(Pulls), _own_reason()),
        else_=_turn(Pulls, until),
    )


def of_new(new: type[Pulls]) -> ColumnElement[Any]:
    """Why a pull that is recorded now has to wait.

    It is what the next `refresh_waiting` would write, so that it finds nothing to change: an update
    of a row costs more than its insert.
    """
    until = func.statement_timestamp() + NEXT_CHECK
    return case(_paused(new, until), else_=_turn(new, until))


def _checked_again(waits_since: SQLColumnExpression[Any]) -> ColumnElement[Any]:
    """The end of a reason that has none of its own: in a minute, or in as long again as the pull
    has waited so far.

    So a pull that waits for hours costs a dozen writes. With thousands of pulls, a reason also does
    not expire before the reconciler reaches its page.
    """
    return func.now() + func.greatest(NEXT_CHECK, func.now() - waits_since)


def _paused(
    pull: type[Pulls], until: ColumnElement[Any]
) -> tuple[ColumnElement[bool], ColumnElement[Any]]:
    """A row of a table: the pull is paused."""
    sentence = paused_sentence(pull)
    return sentence.is_not(None), reason(constant("paused"), until, sentence)


def _turn(pull: type[Pulls], until: ColumnElement[Any]) -> ColumnElement[Any]:
    """Other pulls come first: all of them while its registry is held."""
    held = (
        select(reason(constant("rate_limit"), RegistryHolds.until, RegistryHolds.detail))
        .where(hold_applies(pull.registry))
        .correlate_except(RegistryHolds)
        .scalar_subquery()
    )
    turn = reason(constant("turn"), until, constant("other pulls come first"))
    return func.coalesce(held, turn)


def _own_reason() -> ColumnElement[Any]:
    """What the pull's own step has written, which ends when the step is due again."""
    return reason(cause_of(Pulls), Pulls.not_before, detail_of(Pulls))


def _sick_node() -> ColumnElement[str]:
    """A sick node consumes no queue. If no other node does, this tells the operator what to do."""
    sentence = constant(": ").concat(Nodes.name).concat(constant(" is sick: ")).concat(Nodes.reason)
    is_recent = Nodes.seen_at > func.now() - NEXT_CHECK
    node = (
        select(sentence)
        .where(Nodes.state == constant("sick"), is_recent)
        .order_by(Nodes.name)
        .limit(constant(1))
    )
    return func.coalesce(node.scalar_subquery(), constant(""))


def _followed(until: ColumnElement[Any]) -> ColumnElement[Any]:
    """If every layer of the pull that could be fetched now has a message of another pull: one of
    those pulls. The pull then waits for it, with no message of its own.
    """
    mine, theirs = aliased(PullLayers, name="mine"), aliased(PullLayers, name="theirs")
    other = aliased(Pulls, name="other")
    sent = (
        select(theirs.pull_id)
        .join(other, other.id == theirs.pull_id)
        .where(theirs.has_message, theirs.digest == mine.digest, ~mine.has_message)
        .where(other.registry == Pulls.registry, by_key(is_in(other, "fetching")))
        .limit(constant(1))
        .correlate_except(theirs, other)
        .lateral("sent")
    )
    all_are_sent = func.bool_and(sent.c.pull_id.is_not(None))
    leader = reason(constant("pull"), until, func.min(sent.c.pull_id))
    return (
        select(case((all_are_sent, leader)))
        .select_from(mine)
        .outerjoin(Blobs, Blobs.digest == mine.digest)
        .outerjoin(sent, true())
        .where(mine.pull_id == Pulls.id, is_missing(Blobs), is_due(mine))
        .correlate(Pulls)
        .scalar_subquery()
    )

"""The document `waiting_for` of a pull and of a layer: why it waits, and until when.

    {"cause": "backoff", "until": "2026-03-01T12:00:00+00:00", "detail": "…"}

`cause` is one of turn, no_worker, rate_limit, space, pull, backoff, paused. `until`: when the
reason ends, or is checked again at the latest. `detail`: a sentence; for `pull`, the id of the pull
that this one waits for. Statements build and read the document through this module alone. These
functions write one, and no others:

    pull   recording.arrive, lifecycle.record, lifecycle.fan_out, lifecycle.wait,
           lifecycle.show_waiting, waiting_pulls.readmit_later, waiting_reasons.refresh,
           waiting_reasons.refresh_waiting
    layer  messages.fan_out, pull_layers.wait, pull_layers.join, shared_failures.share

Functions that start, send or end a step clear it (`NOTHING`), and so does the end of a pause.
"""

from typing import Any

from sqlalchemy import ColumnElement, DateTime, SQLColumnExpression, Text, cast, func, null

from shared.catalog.database.expressions import constant, interval
from shared.catalog.model.pull_tables import PullLayers, Pulls

Row = type[Pulls] | type[PullLayers]

# The `until` of a reason that has no end of its own: the reconciler looks at it again by then.
NEXT_CHECK = interval("1 minute")

# The values of a row that waits for nothing.
NOTHING = {"waiting_for": null(), "not_before": null()}


def reason(
    cause: str | SQLColumnExpression[Any],
    until: SQLColumnExpression[Any],
    detail: str | SQLColumnExpression[Any] | None,
) -> ColumnElement[Any]:
    """Return the document. Values of the caller's are parameters, never part of the statement."""
    return func.jsonb_build_object(
        constant("cause"),
        cast(cause, Text),
        constant("until"),
        until,
        constant("detail"),
        cast(detail, Text),
    )


def cause_of(row: Row) -> ColumnElement[str]:
    """The cause; NULL where the row does not wait."""
    return _text(row, "cause")


def detail_of(row: Row) -> ColumnElement[str]:
    """The detail."""
    return _text(row, "detail")


def until_of(row: Row) -> ColumnElement[Any]:
    """When the reason ends, as a time."""
    return cast(_text(row, "until"), DateTime(timezone=True))


def waits_for(row: Row, cause: str) -> ColumnElement[bool]:
    """The row waits for this cause; NULL where it does not wait at all."""
    return cause_of(row) == constant(cause)


def _text(row: Row, key: str) -> ColumnElement[str]:
    # The key is a literal, since `pull_layers_waiting_for_turn_idx` has the same expression.
    return row.waiting_for.op("->>", return_type=Text())(constant(key))

"""The reasons that pulls wait for, as a round of the reconciler writes them."""

from typing import Any

from shared.catalog.admission import waiting_reasons
from shared.catalog.database.catalog import Connection
from shared.catalog.fleet import round_pages
from tests.builders.images import rows
from tests.builders.pulls import row


def refresh(tx: Connection, *, no_pull_worker: bool = False, no_layer_worker: bool = False) -> None:
    """Update every reason."""
    waiting_reasons.refresh(
        tx,
        round_pages.under_way(tx),
        no_pull_worker=no_pull_worker,
        no_layer_worker=no_layer_worker,
    )
    waiting_reasons.refresh_waiting(tx, round_pages.waiting(tx))


def why(tx: Connection, pull_id: str = "p", **workers: bool) -> Any:
    """The cause and the detail of what a pull waits for now; None where it does not wait."""
    refresh(tx, **workers)
    waiting = row(tx, pull_id).waiting_for
    if waiting is None:
        return None
    assert set(waiting) == {"cause", "until", "detail"}
    until = "(waiting_for->>'until')::timestamptz > clock_timestamp()"
    assert rows(tx, f"SELECT {until} FROM pulls WHERE id = '{pull_id}'") == [(True,)]
    assert waiting["detail"]
    return waiting["cause"], waiting["detail"]


def versions(tx: Connection) -> list[tuple[Any, ...]]:
    """The version of each pull's row: it changes with every write."""
    return rows(tx, "SELECT id, ctid::text FROM pulls ORDER BY id")

"""Messages to fetch a layer: noted here with their dispatch, sent by the workers after it."""

from dataclasses import dataclass

from sqlalchemy import text

from shared.catalog.database import Connection
from shared.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class LayerMessage:
    """One message to fetch a layer, to be sent once its dispatch is committed."""

    pull_id: str
    reference: str
    digest: Digest
    generation: int


def dispatch(
    tx: Connection, pull_id: str, digest: Digest, generation: int | None = None
) -> LayerMessage | None:
    """Note that a layer's message is on its way; None where another was quicker.

    `generation`: as it was seen when this was decided.
    """
    row = tx.execute(
        text(
            """
            UPDATE pull_layers SET generation = pull_layers.generation + 1,
                dispatched_at = clock_timestamp()
            FROM pulls
            WHERE pull_id = :pull_id AND digest = :digest AND pulls.id = pull_id
              AND (CAST(:seen AS integer) IS NULL OR pull_layers.generation = :seen)
            RETURNING pulls.reference, pull_layers.generation
            """
        ),
        {"pull_id": pull_id, "digest": str(digest), "seen": generation},
    ).one_or_none()
    return LayerMessage(pull_id, row.reference, digest, row.generation) if row else None

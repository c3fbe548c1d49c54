"""Failures that several pulls share: pulls that waited for another pull's attempt fail with it.

Otherwise each of them would make its own attempts at a registry that fails, one after the other.
"""

from datetime import timedelta

from sqlalchemy import bindparam, text

from shared.catalog.database.catalog import Connection
from shared.oci.digest import Digest

# `same`: the row waited for this very attempt. It has the same repository and the same claim of the
# size, and no time of its own to wait for. `sooner`: it would be tried before the delay is over.
_SHARE = """
    WITH met AS (
        SELECT p.id, p.repository = own.repository
                AND theirs.size_bytes = mine.size_bytes
                AND coalesce(theirs.not_before <= statement_timestamp(), true) AS same,
            coalesce(theirs.not_before < statement_timestamp() + :delay, true) AS sooner
        FROM pulls own JOIN pull_layers mine ON mine.pull_id = own.id
        JOIN pulls p ON p.registry = own.registry AND p.id <> own.id
        JOIN pull_layers theirs ON theirs.pull_id = p.id AND theirs.digest = mine.digest
        WHERE own.id = :pull_id AND mine.digest = :digest AND p.state = 'fetching'
        ORDER BY p.id FOR UPDATE OF theirs
    )
    UPDATE pull_layers SET
        failures = pull_layers.failures + CASE WHEN met.same THEN 1 ELSE 0 END,
        not_before = statement_timestamp() + :delay,
        waiting_for = jsonb_build_object(
            'cause', CAST(:cause AS text), 'until', statement_timestamp() + :delay,
            'detail', CAST(:detail AS text))
    FROM met
    WHERE pull_layers.pull_id = met.id AND pull_layers.digest = :digest
      AND (met.same OR :whole_registry AND met.sooner)
    RETURNING met.id, pull_layers.failures, met.same
"""


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
        text(_SHARE).bindparams(bindparam("delay", timedelta(seconds=seconds))),
        {
            "pull_id": pull_id,
            "digest": str(digest),
            "cause": cause,
            "detail": detail,
            "whole_registry": whole_registry,
        },
    )
    return [(row.id, row.failures) for row in rows if row.same]

"""Checks of the nodes: which are sick, and which have stopped writing their row."""

from collections.abc import Iterator

from shared.catalog.database.catalog import Catalog
from shared.catalog.fleet import node_rows
from shared.catalog.fleet.node_rows import SeenNode
from workers.doctor.finding import CheckResult, counted

# A node writes its row every ten seconds.
_SILENT_SECONDS = 60.0


def check_nodes(catalog: Catalog) -> Iterator[CheckResult]:
    """A problem for each sick or silent node; one finding for all nodes that are well."""
    with catalog.begin() as tx:
        seen = node_rows.seen(tx)
    trouble = {node.name: sentence for node in seen if (sentence := _trouble(node)) is not None}
    yield from (CheckResult("nodes", "problem", sentence) for sentence in trouble.values())
    well = [node.name for node in seen if node.name not in trouble]
    if well:
        are = "is" if len(well) == 1 else "are"
        yield CheckResult("nodes", "ok", f"{counted(len(well), 'node')} {are} well.", well)


def _trouble(node: SeenNode) -> str | None:
    if node.silent_seconds > _SILENT_SECONDS:
        return (
            f"{node.name} was last seen at {node.seen_at:%Y-%m-%d %H:%M:%S %Z}: check that its "
            "worker runs and can reach the database. A node that is gone is forgotten after a day."
        )
    if node.reason is None:
        return None
    return f"{node.name} is sick: {node.reason} It consumes no messages until it is well."

"""Checks of the nodes: which of them are sick, and which have fallen silent."""

from collections.abc import Iterator

from shared.catalog import nodes
from shared.catalog.database import Catalog
from shared.catalog.nodes import SeenNode
from workers.examining.finding import Finding, counted

# A node writes its row every ten seconds.
_SILENT_SECONDS = 60.0


def standing(catalog: Catalog) -> Iterator[Finding]:
    """Each node that is not well; one line for those that are."""
    with catalog.begin() as tx:
        seen = nodes.seen(tx)
    trouble = {one.name: said for one in seen if (said := _trouble(one)) is not None}
    yield from (Finding("nodes", "problem", said) for said in trouble.values())
    well = [one.name for one in seen if one.name not in trouble]
    if well:
        yield Finding("nodes", "ok", f"{counted(len(well), 'node')} well.", well)


def _trouble(node: SeenNode) -> str | None:
    if node.silent_seconds > _SILENT_SECONDS:
        return (
            f"{node.name} was not seen since {node.seen_at:%Y-%m-%d %H:%M:%S %Z}: look whether its "
            "worker runs, and whether it reaches the database. Its row goes after a day."
        )
    if node.reason is None:
        return None
    return f"{node.name} is sick: {node.reason} It takes no messages until it is well."

"""The lease on a pull's own steps: resolving and linking are done by one process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

from shared.catalog import step_leases
from shared.errors import CatalogUnavailable, PoisonLayer
from workers.resources import Resources

# So many owners in a row may die in a step before the pull is to blame.
POISON_STARTS = 5


@contextmanager
def step(resources: Resources, pull_id: str) -> Iterator[bool]:
    """Do a step of a pull alone; False while somebody else is at it.

    Raises PoisonLayer for a pull whose steps end their workers.
    """
    with resources.catalog.begin() as tx:
        lease = step_leases.take(
            tx, step_leases.of_pull(pull_id), resources.owner, resources.settings.lease_seconds
        )
    if lease is None:
        yield False
        return
    try:
        if lease.starts > POISON_STARTS:
            raise PoisonLayer(
                f"Resolving or linking the pull {pull_id} ended its worker {lease.starts} times in "
                "a row: look into the workers' logs, then `towline retry` it."
            )
        with resources.keeper.keeping_step(lease):
            yield True
    finally:
        _end(resources, lease.fence)


def _end(resources: Resources, fence: int) -> None:
    try:
        with resources.catalog.begin() as tx:
            step_leases.end(tx, fence)
    except CatalogUnavailable:
        # It expires by itself.
        return

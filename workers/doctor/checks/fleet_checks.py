"""Checks of the processes: workers, nodes, the reconciler, and what an operator has paused."""

from collections.abc import Iterator, Mapping
from typing import Any

from shared.catalog.admission import pauses
from shared.catalog.fleet import node_rows
from shared.catalog.fleet.node_rows import SeenNode
from shared.catalog.reports import queue_position
from workers.contract import CONTROL, LAYERS, PULLS
from workers.doctor.check_result import Finding, are, counted, ok, problem, warning
from workers.doctor.checked_fleet import AWAY, CheckedFleet

# Time-outs of two tries. Workers answer at once, except while they start children.
_ANSWER_SECONDS = (1.0, 3.0)
# A node writes its row every ten seconds.
_SILENT_SECONDS = 60.0

# What happens without a worker for this queue, and how bad that is.
_WITHOUT = (
    (PULLS, "pulls are neither resolved nor linked", problem),
    (LAYERS, "no layer is fetched", problem),
    (CONTROL, "pulls cannot be cancelled by name (`towline cancel` still works)", warning),
)


def workers(fleet: CheckedFleet) -> Iterator[Finding]:
    """Which workers consume each queue of a pull; how to start one if there is none."""
    queues = _consumed(fleet)
    for queue, consequence, judge in _WITHOUT:
        names = sorted(name for name, consumed in queues.items() if queue in consumed)
        if names:
            consume = "consumes" if len(names) == 1 else "consume"
            yield ok(f"{counted(len(names), 'worker')} {consume} {queue}.", names)
        else:
            yield judge(
                f"No worker consumes {queue}, so {consequence}: start one with "
                f"`celery -A workers.app worker -Q {queue}`."
            )


def _consumed(fleet: CheckedFleet) -> Mapping[str, set[str]]:
    """The queues of every worker that answers."""
    for seconds in _ANSWER_SECONDS:
        try:
            active: Mapping[str, Any] = (
                fleet.app.control.inspect(timeout=seconds).active_queues() or {}
            )
        except AWAY:
            continue
        if active:
            return {name: {queue["name"] for queue in queues} for name, queues in active.items()}
    return {}


def any_worker_answers(fleet: CheckedFleet) -> bool:
    """Whether any worker answers a ping. A worker answers only once it consumes."""
    try:
        return bool(fleet.app.control.inspect(timeout=_ANSWER_SECONDS[0], limit=1).ping())
    except AWAY:
        return False


def nodes(fleet: CheckedFleet) -> Iterator[Finding]:
    """A problem for each sick or silent node; one finding for all nodes that are well."""
    with fleet.catalog.begin() as tx:
        seen = node_rows.seen(tx)
    sentences = {node.name: sentence for node in seen if (sentence := _trouble(node)) is not None}
    yield from map(problem, sentences.values())
    well = [node.name for node in seen if node.name not in sentences]
    if well:
        yield ok(f"{counted(len(well), 'node')} {are(len(well))} well.", well)


def _trouble(node: SeenNode) -> str | None:
    if node.silent_seconds > _SILENT_SECONDS:
        return (
            f"{node.name} was last seen at {node.seen_at:%Y-%m-%d %H:%M:%S %Z}: check that its "
            "worker runs and can reach the database. A node that is gone is forgotten after a day."
        )
    if node.reason is None:
        return None
    return f"{node.name} is sick: {node.reason} It consumes no messages until it is well."


def reconciler(fleet: CheckedFleet) -> Finding:
    """Whether a reconciler is running, that is, holds the leader's lease."""
    with fleet.catalog.begin() as tx:
        leader = queue_position.leading_reconciler(tx)
    if leader is None:
        return problem(
            "No reconciler is running, so nothing that is lost is sent again: start "
            "`towline reconcile`."
        )
    return ok(f"The leading reconciler is {leader}.")


def paused(fleet: CheckedFleet) -> Iterator[Finding]:
    """What an operator has paused, and may have forgotten."""
    with fleet.catalog.begin() as tx:
        active = pauses.listing(tx)
    for pause in active:
        since = f"{pause.paused_at.astimezone():%Y-%m-%d %H:%M:%S}"
        subject = pause.subject[0].upper() + pause.subject[1:]
        yield warning(f"{subject} has been paused since {since}: to resume, run `{pause.command}`.")

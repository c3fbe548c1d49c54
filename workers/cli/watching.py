"""Polls pulls in the catalog until they end. The queue is never asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shared.catalog.database.catalog import Catalog
from shared.catalog.layers import pull_layers
from shared.catalog.layers.pull_layers import PullLayer
from shared.catalog.model.pull_values import Pull
from shared.errors import InvalidReference
from shared.oci.reference import Reference
from shared.pulls.pull_ids import find_pull
from workers.cli.patience import interrupts_between_looks, retry_while_unavailable

_SHORTEST_SECONDS = 0.05
_LONGEST_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One pull and its layers at one moment, in manifest order."""

    pull: Pull
    layers: Sequence[PullLayer]


class Watcher(Protocol):
    """Shows the snapshots."""

    def show(self, snapshots: Sequence[Snapshot]) -> None:
        """Show these snapshots."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def watch(catalog: Catalog, pull_ids: Sequence[str], watcher: Watcher) -> list[Pull]:
    """Show the pulls until each has ended. Returns them as they ended, in the order of the ids.

    Raises KeyboardInterrupt after Ctrl-C or SIGTERM, between two polls.
    """
    pause_seconds = _SHORTEST_SECONDS
    try:
        with interrupts_between_looks() as interrupted:
            while True:
                snapshots = retry_while_unavailable(catalog, lambda: _snapshots(catalog, pull_ids))
                watcher.show(snapshots)
                if all(snapshot.pull.has_ended for snapshot in snapshots):
                    return [snapshot.pull for snapshot in snapshots]
                if interrupted.wait(pause_seconds):
                    raise KeyboardInterrupt
                # Poll often at first, for short pulls, then less often.
                pause_seconds = min(pause_seconds * 1.2, _LONGEST_SECONDS)
    finally:
        watcher.close()


def _snapshots(catalog: Catalog, pull_ids: Sequence[str]) -> list[Snapshot]:
    return [snapshot(catalog, pull_id) for pull_id in pull_ids]


def snapshot(catalog: Catalog, pull_id: str) -> Snapshot:
    """The pull and its layers now. Raises InvalidArgument for an unknown id."""
    with catalog.begin() as tx:
        pull = find_pull(tx, pull_id)
        return Snapshot(pull, pull_layers.of_pull(tx, pull_id, _registry(pull)))


def _registry(pull: Pull) -> str:
    try:
        return Reference.parse(pull.reference).registry
    except InvalidReference:
        # A pull that failed because its reference cannot be parsed has no layers.
        return ""

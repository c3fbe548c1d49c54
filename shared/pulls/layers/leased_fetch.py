"""Fetch one layer while its lease is renewed, and handle a download that is stopped."""

from dataclasses import dataclass

from shared.catalog.admission import pauses
from shared.catalog.layers import pull_layers, storing
from shared.catalog.pulls import lifecycle
from shared.pulls.layers.blockers import PAUSED_SECONDS
from shared.pulls.layers.transfer import FetchJob, adopt_or_download
from shared.pulls.steps.attempts import Attempt, hand_over
from shared.pulls.steps.interruptions import (
    NotWanted,
    Paused,
    ShuttingDown,
    Stopped,
    StoredElsewhere,
)


@dataclass(frozen=True, slots=True)
class FetchedLayer:
    """A layer that is on the volume but has no row yet. `source`: as in the receipt."""

    attempt: Attempt
    work: FetchJob
    size_bytes: int
    source: str


def fetch_blob(current: Attempt, work: FetchJob) -> FetchedLayer | None:
    """Fetch the layer onto the volume. None if its download was stopped from outside.

    Raises ShuttingDown, LeaseLost, and what the download raises.
    """
    try:
        with current.resources.renewer.renewing(work.transfer):
            size_bytes, source = adopt_or_download(current, work)
    except Stopped as reason:
        _stop(current, reason)
        return None
    return FetchedLayer(current, work, size_bytes, source)


def _stop(current: Attempt, reason: Stopped) -> None:
    """Record why the download was stopped, and hand the layer over where that helps.

    No failure is counted against any pull. Raises ShuttingDown, LeaseLost.
    """
    digest, pull_id = current.digest, current.fetched_for
    assert digest is not None  # noqa: S101 - an attempt with a transfer has one
    if isinstance(reason, ShuttingDown):
        raise reason
    with current.resources.catalog.begin() as tx:
        if isinstance(reason, Paused):
            pause = pauses.of_pull(tx, pull_id)
            sentence = pause.sentence if pause else "it was paused"
            lifecycle.show_waiting(tx, pull_id, "paused", PAUSED_SECONDS, sentence)
            pull_layers.wait(tx, pull_id, digest, "paused", PAUSED_SECONDS, sentence)
        if isinstance(reason, NotWanted | Paused):
            current.outbox.layers += hand_over(tx, current, but=pull_id)
        if isinstance(reason, StoredElsewhere):
            current.outbox.links += storing.find_whole_pulls(tx, [digest], pull_id)

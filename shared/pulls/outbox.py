"""What to send once a step's transactions are committed; nothing is sent inside a transaction.

A step fills its outbox, and `workers/messages/dispatching.py` delivers it. If a message cannot be
sent, or the process dies before that, the reconciler sends it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.catalog.admission.admission import Admitted
from shared.catalog.layers.messages import DoubtfulLayer, LayerMessage
from shared.catalog.model.pull_values import Pull


@dataclass(slots=True)
class Outbox:
    """The messages and answers that a step leaves behind."""

    # Layers to fetch.
    layers: list[LayerMessage] = field(default_factory=list)
    # Layers whose messages may be lost: to be sent again if Redis has none for them.
    maybe_lost: list[DoubtfulLayer] = field(default_factory=list)
    # Ids of pulls to continue.
    resumes: list[str] = field(default_factory=list)
    # The same for urgent pulls, by the queue that workers read first.
    urgent: list[str] = field(default_factory=list)
    # Ids of pulls to link.
    links: list[str] = field(default_factory=list)
    # Ids of pulls that have ended, whose callers wait for an answer.
    ended: list[str] = field(default_factory=list)
    # The final rows of ended pulls, where the step knows them: saves reading them again.
    final_rows: dict[str, Pull] = field(default_factory=dict)

    def resume(self, admitted: Iterable[Admitted]) -> None:
        """Continue these pulls, which were admitted just now."""
        for pull in admitted:
            (self.urgent if pull.is_urgent else self.resumes).append(pull.pull_id)

    def end(self, pull_ids: Iterable[str]) -> None:
        """Answer these pulls, which have ended."""
        self.ended += [pull_id for pull_id in pull_ids if pull_id not in self.ended]

    def end_with_row(self, pull: Pull) -> None:
        """Answer this pull, which has ended with this row."""
        self.final_rows[pull.id] = pull
        self.end([pull.id])

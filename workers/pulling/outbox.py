"""What has to be sent once a step's transactions are committed: nothing is sent inside one.

A step fills its outbox; `workers/dispatching.py` delivers it. A message that could not be sent, or
whose sender died before it, is sent by the reconciler.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.catalog.admission import Admitted
from shared.catalog.layer_messages import LayerMessage, Started
from shared.catalog.pull_values import Pull


@dataclass(slots=True)
class Outbox:
    """`layers` to fetch, pulls to go on with (`resumes`, and `urgent` ones, which go before all
    that is queued), pulls to link (`links`), pulls that have `ended` and whose callers wait for an
    answer.
    """

    layers: list[LayerMessage] = field(default_factory=list)
    # Layers to be sent again, where Redis has no message for them.
    doubtful: list[Started] = field(default_factory=list)
    resumes: list[str] = field(default_factory=list)
    urgent: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    # Of those, the rows that are known.
    finals: dict[str, Pull] = field(default_factory=dict)

    def resume(self, admitted: Iterable[Admitted]) -> None:
        """The turn of these pulls has come."""
        for one in admitted:
            (self.urgent if one.is_urgent else self.resumes).append(one.pull_id)

    def end(self, pull_ids: Iterable[str]) -> None:
        """These pulls have ended."""
        self.ended += [pull_id for pull_id in pull_ids if pull_id not in self.ended]

    def end_as(self, pull: Pull) -> None:
        """This pull has ended, and this is its row."""
        self.finals[pull.id] = pull
        self.end([pull.id])

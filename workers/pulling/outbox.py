"""What has to be sent once a step's transactions are committed: nothing is sent inside one.

A step fills its outbox; `workers/dispatching.py` delivers it. A message that could not be sent, or
whose sender died before it, is sent by the reconciler.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.catalog.layer_messages import LayerMessage
from shared.catalog.pull_values import Pull


@dataclass(slots=True)
class Outbox:
    """`layers` to fetch, pulls to go on with (`resumes`), pulls to link (`links`), pulls that
    have `ended` and whose waiting callers are to be told.
    """

    layers: list[LayerMessage] = field(default_factory=list)
    resumes: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    # Of those, the rows that are known.
    finals: dict[str, Pull] = field(default_factory=dict)

    def end(self, pull_ids: Iterable[str]) -> None:
        """These pulls have ended."""
        self.ended += [pull_id for pull_id in pull_ids if pull_id not in self.ended]

    def end_as(self, pull: Pull) -> None:
        """This pull has ended, and this is its row."""
        self.finals[pull.id] = pull
        self.end([pull.id])

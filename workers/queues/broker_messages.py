"""Which messages are on their way. They are read from Redis page by page, however many there are.

A message in a queue's list is on its way. A message that a worker has fetched and not acknowledged
may mean two things. The worker is about to take a lease; or it was killed, and the message stays
there for a day. To tell them apart, each round notes which of these messages are there, so that it
is known for how long.

If a killed worker's message asks for a pull that has no row yet, nothing else knows of the pull. So
that message is put back into its queue.
"""

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from celery import Celery

from workers import contract
from workers.queues.kombu_storage import KombuStorage
from workers.queues.pull_messages import (
    PullMessage,
    RequestedPull,
    fetched_message,
    fetched_pull,
    queued_message,
    requested_pull,
)
from workers.queues.queue_access import translating_errors


@dataclass(slots=True)
class Messages:
    """What is on its way: coordinators and links by pull id, layers by pull id and digest."""

    coordinators: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    layers: set[tuple[str, str]] = field(default_factory=set)


class BrokerMessages:
    """Reads the broker's messages, and remembers since when fetched ones have been there.

    Raises QueueUnavailable.
    """

    def __init__(self, app: Celery) -> None:
        self.storage = KombuStorage(app)
        self._first_seen: dict[str, float] = {}

    def close(self) -> None:
        """Close the connection to Redis."""
        self.storage.close()

    def note_fetched(self) -> None:
        """Note which messages workers have fetched and not acknowledged by now."""
        with translating_errors():
            self._note_fetched()

    def pages(self, queues: Collection[str]) -> Iterator[list[PullMessage]]:
        """The messages in these queues' lists, the newest first; then all fetched ones."""
        with translating_errors():
            # The lists come first: a message that is fetched in between is seen twice, not never.
            for queue in queues:
                for raws in self.storage.queued(queue):
                    yield [message for raw in raws if (message := queued_message(raw))]
            for page in self.storage.fetched(self._note_fetched()):
                yield [
                    message
                    for tag, raw in page
                    if (message := fetched_message(raw, self._first_seen[tag]))
                ]

    def read(self, pull_ids: Collection[str], digests: Collection[str]) -> Messages:
        """The messages on their way for these pulls; for layers, those of any pull."""
        found = Messages()
        kinds = {
            contract.PULL_IMAGE: found.coordinators,
            contract.RESUME_PULL: found.coordinators,
            contract.LINK_IMAGE: found.links,
        }
        for page in self.pages((contract.CONTROL, contract.PULLS, contract.LAYERS)):
            for message in page:
                if message.digest is not None:
                    if message.digest in digests:
                        found.layers.add((message.pull_id, message.digest))
                elif message.pull_id in pull_ids:
                    kinds[message.task].add(message.pull_id)
        return found

    def stale_pulls(self, seconds: float) -> dict[str, str]:
        """The pulls whose messages workers have held for this long, by the messages' tags.

        Messages that wait for their ETA in a worker are left out.
        """
        oldest = time.monotonic() - seconds
        with translating_errors():
            self._note_fetched()
            tags = [tag for tag, since in self._first_seen.items() if since <= oldest]
            return {
                tag: pull_id
                for page in self.storage.fetched(tags)
                for tag, raw in page
                if (pull_id := fetched_pull(raw)) is not None
            }

    def newest_requests(self, queue: str, most: int) -> list[RequestedPull]:
        """What the `most` newest messages of this queue ask for; nothing if it holds no more."""
        with translating_errors():
            raws = self.storage.newest(queue, most)
        return [request for raw in raws if (request := requested_pull(raw))]

    def give_back(self, tag: str) -> None:
        """Put a fetched message back into its queue, for another worker."""
        with translating_errors():
            self.storage.give_back(tag)

    def give_back_all(self) -> int:
        """Put all fetched messages into their queues again. Returns how many there were.

        Only for a broker whose workers have all ended, because their messages would run twice.
        """
        with translating_errors():
            tags = self._note_fetched()
        for tag in tags:
            self.give_back(tag)
        return len(tags)

    def _note_fetched(self) -> list[str]:
        """The tags of all messages that are fetched and not acknowledged."""
        now = time.monotonic()
        tags = self.storage.tags()
        self._first_seen = {tag: self._first_seen.get(tag, now) for tag in tags}
        return tags

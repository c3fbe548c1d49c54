"""Find work that is lost: due in PostgreSQL and without a message in Redis, in two rounds in a row.

One round proves nothing. PostgreSQL is read first and Redis second, and a message that a worker is
just fetching is in no list for a moment.

A fetched message does not always mean that a worker will do the work. If it was fetched before the
lease expired, it was the dead owner's own, or its task found the lease taken: it does not count. If
it was fetched later, it counts for one lease time. By then its worker has taken a lease, or is dead
as well.

    fetched ─ lease ─ renew ─ ✝ ─ ─ ─ ─ expired │ round: missing │ round: lost, sent again
    └──── seen in each round: older than that ──┘
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.catalog.database.catalog import Catalog
from shared.catalog.fleet import due_pulls, round_pages
from shared.catalog.fleet.due_layers import DueLayer
from shared.catalog.fleet.due_pulls import DuePull
from workers import contract
from workers.queues.broker_messages import BrokerMessages
from workers.queues.pull_messages import PullMessage

# Kind, pull or registry, digest.
_Key = tuple[str, str, str]
_LINK, _COORDINATOR, _LAYER = "link", "coordinator", "layer"

_KINDS = {
    contract.PULL_IMAGE: _COORDINATOR,
    contract.RESUME_PULL: _COORDINATOR,
    contract.LINK_IMAGE: _LINK,
}


@dataclass(frozen=True, slots=True)
class DueWork:
    """Work that should be done and that no lease covers: pulls to link, pulls to resolve, layers to
    fetch. `unsettled`: ended pulls whose layout a link should correct.
    """

    links: Sequence[DuePull] = ()
    coordinators: Sequence[DuePull] = ()
    layers: Sequence[DueLayer] = ()
    unsettled: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.links or self.coordinators or self.layers or self.unsettled)


class LostWorkFinder:
    """Finds lost work, by remembering what had no message in the last round.

    Raises QueueUnavailable, CatalogUnavailable.
    """

    def __init__(self, catalog: Catalog, broker: BrokerMessages, lease_seconds: float) -> None:
        self._catalog = catalog
        self._broker = broker
        self._lease_seconds = lease_seconds
        self._seen: frozenset[_Key] = frozenset()

    def find(self, due: DueWork, counted_at: float) -> DueWork:
        """The part of this work that has no message now and had none in the last round. At most a
        batch of layers.

        `counted_at`: the time.monotonic() at which PostgreSQL was read.
        """
        missing = self._without_message(due, counted_at)
        twice = self._seen & missing
        lost = DueWork(
            [pull for pull in due.links if _of_link(pull) in twice],
            [pull for pull in due.coordinators if _of_coordinator(pull) in twice],
            [layer for layer in due.layers if _of_layer(layer) in twice][: round_pages.BATCH],
            [pull_id for pull_id in due.unsettled if _of_unsettled(pull_id) in twice],
        )
        # This work is sent now. It counts as lost again only after two more rounds.
        self._seen = missing - _keys(lost).keys()
        return lost

    def forget(self) -> None:
        """Forget the previous round. Call it when nothing is due."""
        self._seen = frozenset()

    def _without_message(self, due: DueWork, counted_at: float) -> frozenset[_Key]:
        if not due:
            return frozenset()
        search = _Search(self._catalog, due, counted_at, self._lease_seconds)
        # Coordinators of urgent pulls are sent to the control queue.
        queues = (
            [contract.CONTROL, contract.PULLS]
            if due.links or due.coordinators or due.unsettled
            else []
        )
        queues += [contract.LAYERS] if due.layers else []
        for page in self._broker.pages(queues):
            search.look_through(page)
            if not search.missing:
                break
        return frozenset(search.missing)


class _Search:
    """A search through the messages for those that belong to due work.

    `missing`: the work without a message so far, with the time.monotonic() at which its lease
    expired; minus infinity if no lease did.
    """

    def __init__(
        self, catalog: Catalog, due: DueWork, counted_at: float, lease_seconds: float
    ) -> None:
        self._catalog = catalog
        # A message that was fetched before this has had one lease time, and no longer counts.
        self._since = time.monotonic() - lease_seconds
        self._registries: dict[str, str | None] = {}
        self._digests = {str(layer.digest) for layer in due.layers}
        self.missing = {
            key: float("-inf") if silent_seconds is None else counted_at - silent_seconds
            for key, silent_seconds in _keys(due).items()
        }

    def look_through(self, page: Iterable[PullMessage]) -> None:
        """Remove the work that these messages are for from `missing`."""
        fetching = []
        for message in page:
            if message.digest is None:
                self._strike_out((_KINDS[message.task], message.pull_id, ""), message)
            elif message.digest in self._digests:
                fetching.append(message)
        self._name_registries({message.pull_id for message in fetching})
        for message in fetching:
            registry = self._registries[message.pull_id]
            if registry is not None:
                self._strike_out((_LAYER, registry, str(message.digest)), message)

    def _strike_out(self, key: _Key, message: PullMessage) -> None:
        expired_at = self.missing.get(key)
        if expired_at is None:
            return
        if message.since is None or message.since > max(self._since, expired_at):
            del self.missing[key]

    def _name_registries(self, pull_ids: set[str]) -> None:
        unknown = pull_ids - self._registries.keys()
        if not unknown:
            return
        with self._catalog.begin() as tx:
            found = due_pulls.registries(tx, unknown)
        self._registries.update({pull_id: found.get(pull_id) for pull_id in unknown})


def _keys(due: DueWork) -> dict[_Key, float | None]:
    """The keys of this work, with the seconds since its lease expired; None if no lease did."""
    return {
        **{_of_link(pull): pull.silent_seconds for pull in due.links},
        **{_of_coordinator(pull): pull.silent_seconds for pull in due.coordinators},
        **{_of_layer(layer): layer.silent_seconds for layer in due.layers},
        **{_of_unsettled(pull_id): None for pull_id in due.unsettled},
    }


def _of_link(pull: DuePull) -> _Key:
    return _LINK, pull.id, ""


def _of_unsettled(pull_id: str) -> _Key:
    return _LINK, pull_id, ""


def _of_coordinator(pull: DuePull) -> _Key:
    return _COORDINATOR, pull.id, ""


def _of_layer(layer: DueLayer) -> _Key:
    return _LAYER, layer.registry, str(layer.digest)

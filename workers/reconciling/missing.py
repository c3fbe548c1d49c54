"""What is lost: due in PostgreSQL and without a message in Redis, in two looks in a row.

PostgreSQL is read first and Redis second; a message is in no list for a moment while a worker
fetches it, so that one look alone proves nothing.

A message that was fetched before a lease expired was the dead owner's, or one that found the lease
taken: it proves nothing either. One that was fetched later counts for one lease time, in which its
worker takes a lease, or is dead as well.

    fetched ─ lease ─ renew ─ ✝ ─ ─ ─ ─ expired │ look: missing │ look: lost, sent again
    └───── seen in each look: older than that ──┘
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from shared.catalog import recovery
from shared.catalog.database import Catalog
from shared.catalog.recovery import DueLayer, DuePull
from workers import contract
from workers.reconciling.backlog import Backlog, Message

# Kind, pull or registry, digest.
_Key = tuple[str, str, str]
_LINK, _COORDINATOR, _LAYER = "link", "coordinator", "layer"

_KINDS = {
    contract.PULL_IMAGE: _COORDINATOR,
    contract.RESUME_PULL: _COORDINATOR,
    contract.LINK_IMAGE: _LINK,
}


@dataclass(frozen=True, slots=True)
class Due:
    """Links and coordinators that should run and layers that should be fetched; no lease covers
    them. `unsettled`: pulls that have ended, and whose layout a link should put right.
    """

    links: Sequence[DuePull] = ()
    coordinators: Sequence[DuePull] = ()
    layers: Sequence[DueLayer] = ()
    unsettled: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.links or self.coordinators or self.layers or self.unsettled)


class Missing:
    """Remembers from one look to the next what had no message. Raises QueueUnavailable,
    CatalogUnavailable.
    """

    def __init__(self, catalog: Catalog, backlog: Backlog, lease_seconds: float) -> None:
        self._catalog = catalog
        self._backlog = backlog
        self._lease_seconds = lease_seconds
        self._seen: frozenset[_Key] = frozenset()

    def find(self, due: Due, looked_at: float) -> Due:
        """What of this was without a message in the look before, too: at most a batch of layers.
        `looked_at`: when PostgreSQL was read, by the monotonic clock.
        """
        before, missing = self._seen, self._without_message(due, looked_at)
        lost = Due(
            [one for one in due.links if _of_link(one) in before & missing],
            [one for one in due.coordinators if _of_coordinator(one) in before & missing],
            [one for one in due.layers if _of_layer(one) in before & missing][: recovery.BATCH],
            [one for one in due.unsettled if _of_unsettled(one) in before & missing],
        )
        # What is sent now begins from nothing.
        self._seen = missing - _keys(lost).keys()
        return lost

    def forget(self) -> None:
        """Nothing is due: the next look is a first one."""
        self._seen = frozenset()

    def _without_message(self, due: Due, looked_at: float) -> frozenset[_Key]:
        if not due:
            return frozenset()
        search = _Search(self._catalog, due, looked_at, self._lease_seconds)
        # Urgent coordinators stand in the queue that is read first.
        queues = (
            [contract.CONTROL, contract.PULLS]
            if due.links or due.coordinators or due.unsettled
            else []
        )
        queues += [contract.LAYERS] if due.layers else []
        for page in self._backlog.pages(queues):
            search.look_through(page)
            if not search.missing:
                break
        return frozenset(search.missing)


class _Search:
    """`missing`: what has no message by now, and when the lease on it expired, by the monotonic
    clock; long ago where none did.
    """

    def __init__(self, catalog: Catalog, due: Due, looked_at: float, lease_seconds: float) -> None:
        self._catalog = catalog
        # What was seen earlier than this has had its time.
        self._since = time.monotonic() - lease_seconds
        self._registries: dict[str, str | None] = {}
        self._digests = {str(one.digest) for one in due.layers}
        self.missing = {
            key: float("-inf") if silent_seconds is None else looked_at - silent_seconds
            for key, silent_seconds in _keys(due).items()
        }

    def look_through(self, page: Iterable[Message]) -> None:
        """Strike out what these messages are for."""
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

    def _strike_out(self, key: _Key, message: Message) -> None:
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
            found = recovery.registries(tx, unknown)
        self._registries.update({pull_id: found.get(pull_id) for pull_id in unknown})


def _keys(due: Due) -> dict[_Key, float | None]:
    """All of them, each with the seconds since the lease on it expired."""
    return {
        **{_of_link(one): one.silent_seconds for one in due.links},
        **{_of_coordinator(one): one.silent_seconds for one in due.coordinators},
        **{_of_layer(one): one.silent_seconds for one in due.layers},
        **{_of_unsettled(one): None for one in due.unsettled},
    }


def _of_link(pull: DuePull) -> _Key:
    return _LINK, pull.id, ""


def _of_unsettled(pull_id: str) -> _Key:
    return _LINK, pull_id, ""


def _of_coordinator(pull: DuePull) -> _Key:
    return _COORDINATOR, pull.id, ""


def _of_layer(layer: DueLayer) -> _Key:
    return _LAYER, layer.registry, str(layer.digest)

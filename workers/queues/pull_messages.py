"""What a message is for. Messages of others in our queues are skipped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.pulls.pull_ids import is_pull_id
from workers import contract
from workers.queues.kombu_storage import FOREIGN, StoredMessage


@dataclass(frozen=True, slots=True)
class PullMessage:
    """A message of ours. `digest`: None unless it is for a layer. `since`: the time.monotonic() at
    which it was first seen fetched and not acknowledged; None for a message in a queue's list.
    """

    task: str
    pull_id: str
    digest: str | None
    since: float | None = None


@dataclass(frozen=True, slots=True)
class RequestedPull:
    """A pull that a message asks for, with the arguments as they were sent."""

    pull_id: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]


def queued_message(raw: bytes) -> PullMessage | None:
    """A message in a queue's list."""
    try:
        return _message(StoredMessage.queued(raw), None)
    except FOREIGN:
        return None


def fetched_message(raw: bytes, since: float) -> PullMessage | None:
    """A message that a worker has fetched and not acknowledged."""
    try:
        return _message(StoredMessage.fetched(raw), since)
    except FOREIGN:
        return None


def _message(stored: StoredMessage, since: float | None) -> PullMessage | None:
    task = stored.headers["task"]
    if task == contract.PULL_IMAGE:
        # The id is the pull id, so the arguments need not be parsed.
        pull_id, digest = str(stored.headers["id"]), None
    elif task in {contract.RESUME_PULL, contract.LINK_IMAGE, contract.FETCH_LAYER}:
        _, kwargs, _ = stored.body
        pull_id = str(kwargs["pull_id"])
        digest = str(kwargs["digest"]) if task == contract.FETCH_LAYER else None
    else:
        return None
    # PostgreSQL would refuse to look for an id that no row can have.
    return PullMessage(task, pull_id, digest, since) if is_pull_id(pull_id) else None


def fetched_pull(raw: bytes) -> str | None:
    """The pull that a fetched message asks for; None for any other message, and before its ETA."""
    try:
        headers = StoredMessage.fetched(raw).headers
        if headers["task"] != contract.PULL_IMAGE:
            return None
        eta = headers.get("eta")
        if eta is not None and datetime.fromisoformat(eta).astimezone() > datetime.now(UTC):
            return None
        return str(headers["id"])
    except FOREIGN:
        return None


def requested_pull(raw: bytes) -> RequestedPull | None:
    """What a message of `towline.pull_image` asks for; None for any other message.

    None as well if it has an ETA, may expire, or carries callbacks: only its own task handles
    these.
    """
    try:
        stored = StoredMessage.queued(raw)
        args, kwargs, embedded = stored.body
        headers = stored.headers
        if headers["task"] != contract.PULL_IMAGE or any(embedded.values()):
            return None
        if headers.get("eta") is not None or headers.get("expires") is not None:
            return None
        if not isinstance(args, list) or not isinstance(kwargs, dict):
            return None
        return RequestedPull(str(headers["id"]), args, kwargs)
    except FOREIGN:
        return None

"""What a caller may ask for: the arguments of `towline.pull_image`, parsed and checked.

Celery's own check of arguments is off for this task, since its error would reach no caller.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from shared.catalog.model.pull_values import NewPull
from shared.errors import InvalidArgument, InvalidPlatform, InvalidReference
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from shared.pulls.pull_ids import is_storable

Policy = Literal["always", "if-missing"]
POLICIES: tuple[Policy, ...] = get_args(Policy)
DEFAULT_PRIORITY = 5

_KEYWORDS = (
    *("reference", "platform", "priority", "policy"),
    *("requested_by", "labels", "deadline_seconds"),
)
_TEXT_CHARACTERS = 255
_LABELS = 64
_LONGEST_DEADLINE_SECONDS = 366 * 24 * 3600


@dataclass(frozen=True, slots=True)
class PullRequest:
    """One pull as its caller asked for it. `platform` None: the default of the planning worker."""

    reference: Reference
    platform: Platform | None = None
    priority: int = DEFAULT_PRIORITY
    policy: Policy = "always"
    requested_by: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    deadline_seconds: float | None = None

    @classmethod
    def parse(cls, args: Sequence[Any], kwargs: Mapping[str, Any]) -> "PullRequest":
        """Parse the arguments of a message.

        Raises InvalidArgument, InvalidReference, InvalidPlatform.
        """
        if args:
            raise InvalidArgument(
                "towline.pull_image takes keyword arguments only: "
                f"send {', '.join(_KEYWORDS)} by name."
            )
        unknown = sorted(set(kwargs) - set(_KEYWORDS))
        if unknown:
            raise InvalidArgument(
                f"towline.pull_image does not know the argument {unknown[0]!r}: "
                f"it takes {', '.join(_KEYWORDS)}."
            )
        if "reference" not in kwargs:
            raise InvalidArgument("towline.pull_image needs the argument 'reference'.")
        return cls(
            reference=_reference(kwargs["reference"]),
            platform=_platform(kwargs.get("platform")),
            priority=_priority(kwargs.get("priority")),
            policy=_policy(kwargs.get("policy")),
            requested_by=_requested_by(kwargs.get("requested_by")),
            labels=_labels(kwargs.get("labels")),
            deadline_seconds=_deadline_seconds(kwargs.get("deadline_seconds")),
        )


def new_pull(
    pull_id: str, request: PullRequest, callbacks: Mapping[str, Any] | None = None
) -> NewPull:
    """The row to record. `callbacks`: as `workers/messages/callbacks.py` reads them."""
    return NewPull(
        id=pull_id,
        reference=str(request.reference),
        platform=str(request.platform) if request.platform else None,
        policy=request.policy,
        priority=request.priority,
        requested_by=request.requested_by,
        labels=dict(request.labels),
        registry=request.reference.registry,
        repository=request.reference.repository,
        deadline_seconds=request.deadline_seconds,
        callbacks=callbacks,
    )


def reference_text(kwargs: Mapping[str, Any]) -> str:
    """The reference as it was sent, in a form that PostgreSQL can hold, for a pull that fails."""
    sent = kwargs.get("reference", "")
    try:
        text = sent if isinstance(sent, str) else json.dumps(sent, default=str)
    except RecursionError:
        # Nested so deep that it could be parsed, but not written from further down the stack.
        text = "…"
    return (
        text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")[:4096]
    )


def _reference(value: Any) -> Reference:
    if not isinstance(value, str):
        raise InvalidReference(
            "The reference must be a string such as docker.io/library/alpine:3.20."
        )
    return Reference.parse(value)


def _platform(value: Any) -> Platform | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidPlatform("The platform must be a string such as linux/arm64.")
    return Platform.parse(value)


def _priority(value: Any) -> int:
    if value is None:
        return DEFAULT_PRIORITY
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 9:
        raise InvalidArgument("The priority must be a whole number from 0 to 9 (9 is first).")
    return value


def _policy(value: Any) -> Policy:
    if value is None:
        return "always"
    if value not in POLICIES:
        raise InvalidArgument(f"The policy must be one of {', '.join(POLICIES)}.")
    return cast(Policy, value)


def _requested_by(value: Any) -> str | None:
    if value is None:
        return None
    if not _is_plain(value):
        raise InvalidArgument(
            f"requested_by must be a string of at most {_TEXT_CHARACTERS} characters."
        )
    return cast(str, value)


def _labels(value: Any) -> Mapping[str, str]:
    if value is None:
        return {}
    if (
        not isinstance(value, dict)
        or len(value) > _LABELS
        or not all(_is_plain(key) and _is_plain(text) for key, text in value.items())
    ):
        raise InvalidArgument(
            f"labels must be an object of at most {_LABELS} strings; each name and value may have "
            f"at most {_TEXT_CHARACTERS} characters."
        )
    return value


def _deadline_seconds(value: Any) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidArgument("deadline_seconds must be a number of seconds.")
    if not 0 < value <= _LONGEST_DEADLINE_SECONDS:
        raise InvalidArgument(
            f"deadline_seconds must be more than 0 and at most a year, {_LONGEST_DEADLINE_SECONDS}."
        )
    return float(value)


def _is_plain(value: Any) -> bool:
    """Whether this is a short string that PostgreSQL can hold."""
    return isinstance(value, str) and len(value) <= _TEXT_CHARACTERS and is_storable(value)

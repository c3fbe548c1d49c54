"""Every error of the tree travels through the result backend whole."""

import inspect

import pytest

from shared import errors
from shared.errors import (
    PermanentError,
    RateLimited,
    RegistryUnavailable,
    TowlineError,
    TransientError,
)

CLASSES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, TowlineError)
]

CONTRACT = [
    "TowlineError",
    "TransientError",
    "RegistryUnavailable",
    "RateLimited",
    "BlobTruncated",
    "DigestMismatch",
    "SizeMismatch",
    "CatalogUnavailable",
    "VolumeFull",
    "VolumeUnavailable",
    "InternalError",
    "PermanentError",
    "InvalidArgument",
    "InvalidReference",
    "InvalidDigest",
    "InvalidPlatform",
    "InvalidManifest",
    "UnsupportedMediaType",
    "UnsupportedAlgorithm",
    "PlatformNotFound",
    "ManifestUnknown",
    "BlobUnknown",
    "Unauthorized",
    "Forbidden",
    "TlsFailed",
    "RegistryNotAllowed",
    "TooLarge",
    "PoisonLayer",
    "DeadlineExceeded",
    "PullCancelled",
]

# They postpone a step and end no pull.
NEVER_ON_THE_WIRE = ["HeldBack", "HostIsDead"]


def test_the_tree_is_the_contracts() -> None:
    assert sorted(kind.__name__ for kind in CLASSES) == sorted(CONTRACT + NEVER_ON_THE_WIRE)


def test_every_leaf_decides_whether_to_try_again() -> None:
    for kind in CLASSES:
        if kind is not TowlineError:
            assert issubclass(kind, TransientError) != issubclass(kind, PermanentError)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_is_rebuilt_from_its_arguments(kind: type[TowlineError]) -> None:
    error = kind("One sentence.", "CODE")
    again = kind(*error.args)
    assert (str(again), again.message, again.code) == ("One sentence.", "One sentence.", "CODE")
    assert kind(*kind("Only a sentence.").args).args == ("Only a sentence.",)


@pytest.mark.parametrize("kind", [RateLimited, RegistryUnavailable])
def test_a_registry_that_said_when_to_come_back_is_believed(kind: type[TransientError]) -> None:
    error = kind("Slow down.", None, 3.5)
    assert kind(*error.args).retry_after_seconds == 3.5
    assert kind("Slow down.").retry_after_seconds is None

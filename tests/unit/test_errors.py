"""The error tree is the contract's, and the result backend can rebuild each error."""

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

# They postpone a step and never fail a pull.
NEVER_ON_THE_WIRE = ["HeldBack", "HostIsDead"]


def test_the_tree_has_the_classes_of_the_contract() -> None:
    assert sorted(kind.__name__ for kind in CLASSES) == sorted(CONTRACT + NEVER_ON_THE_WIRE)


def test_every_class_is_either_transient_or_permanent() -> None:
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
def test_the_registrys_retry_after_survives_the_rebuild(kind: type[TransientError]) -> None:
    error = kind("Slow down.", None, 3.5)
    assert kind(*error.args).retry_after_seconds == 3.5
    assert kind("Slow down.").retry_after_seconds is None

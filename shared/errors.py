"""Every error that leaves towline, in one tree. The class decides whether to try again.

TowlineError
├── TransientError            tried again, with backoff; the budget begins anew after progress
│   ├── RegistryUnavailable   connection refused or cut, time-out, 5xx
│   ├── RateLimited           429; both know when to come back, where the registry says so
│   ├── BlobTruncated         the body ended before the descriptor's size
│   ├── DigestMismatch        the bytes are not what their name says (few tries)
│   ├── SizeMismatch          more bytes, or another length, than the descriptor says (few tries)
│   ├── CatalogUnavailable    PostgreSQL is away
│   ├── VolumeFull            no space left on the volume
│   ├── VolumeUnavailable     the volume is missing, is another one, or answers with an error
│   └── InternalError         an exception that was not foreseen
└── PermanentError            ends the pull at once
    ├── InvalidArgument, InvalidReference, InvalidDigest, InvalidPlatform
    ├── InvalidManifest, UnsupportedMediaType, UnsupportedAlgorithm, TooLarge
    ├── PlatformNotFound, ManifestUnknown, BlobUnknown
    ├── Unauthorized (401), Forbidden (403), TlsFailed, RegistryNotAllowed
    └── PoisonLayer, DeadlineExceeded, PullCancelled

The names travel on the wire and in the catalog. Arguments are positional and JSON-plain, the
finished sentence first, so that Celery's result backend gives back what was raised.
"""


class TowlineError(Exception):
    """Base of all. `message` is one sentence a person can act on; `code` the registry's own."""

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message, code) if code else super().__init__(message)
        self.message = message
        self.code = code

    def __str__(self) -> str:
        return self.message


class TransientError(TowlineError):
    """May succeed when tried again. `retry_after_seconds`: not sooner, where somebody said so."""

    def __init__(
        self, message: str, code: str | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message, code)
        self.retry_after_seconds = retry_after_seconds
        if retry_after_seconds is not None:
            self.args = (message, code, retry_after_seconds)


class RegistryUnavailable(TransientError):
    """The registry cannot be reached, broke off, timed out or answered 5xx."""


class RateLimited(TransientError):
    """The registry answered 429."""


class HeldBack(RateLimited):
    """The fleet leaves the registry alone for `retry_after_seconds`: nothing was asked, and nothing
    is counted. It postpones a step and ends no pull, so it never travels.
    """


class HostIsDead(RegistryUnavailable):
    """The host did not answer somebody of the fleet a moment ago: nothing was asked."""


class BlobTruncated(TransientError):
    """The body of a blob ended before the size its descriptor promised."""


class DigestMismatch(TransientError):
    """Bytes were read in full and do not hash to their digest."""


class SizeMismatch(TransientError):
    """The registry serves another number of bytes than the descriptor promises."""


class CatalogUnavailable(TransientError):
    """PostgreSQL cannot be reached or broke off."""


class VolumeFull(TransientError):
    """The volume has no space left."""


class VolumeUnavailable(TransientError):
    """The volume is missing, is not the catalog's, or answers with an I/O error."""


class InternalError(TransientError):
    """An exception that was not foreseen stopped a step; the worker's log has the traceback."""


class PermanentError(TowlineError):
    """Trying again cannot help."""


class InvalidArgument(PermanentError):
    """A task or command got an argument it does not know or cannot use."""


class InvalidReference(PermanentError):
    """The text is no image reference."""


class InvalidDigest(PermanentError):
    """The text is no digest."""


class InvalidPlatform(PermanentError):
    """The text is no platform."""


class InvalidManifest(PermanentError):
    """An index, manifest or config that contradicts the specification or itself."""


class UnsupportedMediaType(PermanentError):
    """A document of a kind that towline does not read, such as schema 1."""


class UnsupportedAlgorithm(PermanentError):
    """A digest of an algorithm other than sha256, sha384 and sha512."""


class PlatformNotFound(PermanentError):
    """The image has no manifest for the platform; the sentence lists those it has."""


class ManifestUnknown(PermanentError):
    """The registry does not know the tag, digest or repository."""


class BlobUnknown(PermanentError):
    """The registry does not have a blob that its own manifest names."""


class Unauthorized(PermanentError):
    """401 although authentication was tried."""


class Forbidden(PermanentError):
    """403: these credentials may not read this repository."""


class TlsFailed(PermanentError):
    """No trusted TLS connection to the registry."""


class RegistryNotAllowed(PermanentError):
    """The operator's lists do not allow this registry, or its address is never asked."""


class TooLarge(PermanentError):
    """A document is larger than its cap."""


class PoisonLayer(PermanentError):
    """A layer ended its worker too many times without progress."""


class DeadlineExceeded(PermanentError):
    """The pull did not finish by its deadline."""


class PullCancelled(PermanentError):
    """Somebody cancelled the pull."""

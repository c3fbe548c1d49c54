"""Every error that leaves towline, in one tree. The class decides whether a step is retried.

TowlineError
├── TransientError            retried with backoff; progress resets the count of attempts
│   ├── RegistryUnavailable   connection refused or cut, time-out, 5xx
│   ├── RateLimited           429; as above, with the registry's Retry-After if it sent one
│   ├── BlobTruncated         the body ended before the descriptor's size
│   ├── DigestMismatch        the bytes do not hash to their digest (few attempts)
│   ├── SizeMismatch          the size differs from the descriptor's (few attempts)
│   ├── CatalogUnavailable    PostgreSQL cannot be reached
│   ├── VolumeFull            no space left on the volume
│   ├── VolumeUnavailable     the volume is missing, is a different one, or reports an I/O error
│   └── InternalError         an unexpected exception
└── PermanentError            fails the pull at once
    ├── InvalidArgument, InvalidReference, InvalidDigest, InvalidPlatform
    ├── InvalidManifest, UnsupportedMediaType, UnsupportedAlgorithm, TooLarge
    ├── PlatformNotFound, ManifestUnknown, BlobUnknown
    ├── Unauthorized (401), Forbidden (403), TlsFailed, RegistryNotAllowed
    └── PoisonLayer, DeadlineExceeded, PullCancelled

The class names travel on the wire and are stored in the catalog. Arguments are positional and
JSON-plain, with the finished sentence first: Celery's result backend rebuilds an error from its
class name and its arguments.
"""


class TowlineError(Exception):
    """Base class. `message`: one sentence that a person can act on. `code`: the error code that
    the registry sent, if any.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message, code) if code else super().__init__(message)
        self.message = message
        self.code = code

    def __str__(self) -> str:
        return self.message


class TransientError(TowlineError):
    """A retry may succeed. `retry_after_seconds`: the least wait before it, None if not known."""

    def __init__(
        self, message: str, code: str | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message, code)
        self.retry_after_seconds = retry_after_seconds
        if retry_after_seconds is not None:
            self.args = (message, code, retry_after_seconds)


class RegistryUnavailable(TransientError):
    """The registry cannot be reached, closed the connection, timed out or answered 5xx."""


class RateLimited(TransientError):
    """The registry answered 429."""


class HeldBack(RateLimited):
    """The rate limiter refused a request for `retry_after_seconds`. Nothing was sent, and no
    attempt is counted. It postpones a step and never fails a pull, so it is never the answer of a
    pull.
    """


class HostIsDead(RegistryUnavailable):
    """The fleet marked the host as unreachable a moment ago, so nothing was sent."""


class BlobTruncated(TransientError):
    """The body of a blob ended before the size in its descriptor."""


class DigestMismatch(TransientError):
    """The bytes were read in full and do not hash to their digest."""


class SizeMismatch(TransientError):
    """The registry serves a different number of bytes than the descriptor states."""


class CatalogUnavailable(TransientError):
    """PostgreSQL cannot be reached or closed the connection."""


class VolumeFull(TransientError):
    """The volume has no space left."""


class VolumeUnavailable(TransientError):
    """The volume is missing, is not the catalog's, or reports an I/O error."""


class InternalError(TransientError):
    """An unexpected exception stopped a step; the worker's log has the traceback."""


class PermanentError(TowlineError):
    """A retry cannot help."""


class InvalidArgument(PermanentError):
    """A task or command got an unknown or unusable argument, or a setting cannot be used."""


class InvalidReference(PermanentError):
    """The text is not an image reference."""


class InvalidDigest(PermanentError):
    """The text is not a digest."""


class InvalidPlatform(PermanentError):
    """The text is not a platform."""


class InvalidManifest(PermanentError):
    """An index, manifest or config contradicts the specification or itself."""


class UnsupportedMediaType(PermanentError):
    """A document of a type that towline does not read, such as a schema 1 manifest."""


class UnsupportedAlgorithm(PermanentError):
    """A digest uses an algorithm other than sha256, sha384 and sha512."""


class PlatformNotFound(PermanentError):
    """The image has no manifest for the platform; the message lists the platforms it has."""


class ManifestUnknown(PermanentError):
    """The registry does not know the tag, digest or repository."""


class BlobUnknown(PermanentError):
    """The registry does not have a blob that its own manifest names."""


class Unauthorized(PermanentError):
    """The registry answered 401 after authentication, or the credentials cannot be used."""


class Forbidden(PermanentError):
    """The registry answered 403: these credentials may not read this repository."""


class TlsFailed(PermanentError):
    """No trusted TLS connection to the registry could be made."""


class RegistryNotAllowed(PermanentError):
    """The operator's lists exclude this registry, or towline never connects to its address."""


class TooLarge(PermanentError):
    """A document, or a part of it, exceeds its size limit."""


class PoisonLayer(PermanentError):
    """Fetching the layer killed its worker too many times without progress."""


class DeadlineExceeded(PermanentError):
    """The pull did not finish by its deadline."""


class PullCancelled(PermanentError):
    """The pull was cancelled."""

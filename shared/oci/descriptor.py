"""Descriptors: how a document refers to a blob, by media type, digest and size.

Source: image-spec v1.1, "Content Descriptors".
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.errors import InvalidDigest, InvalidManifest, TooLarge
from shared.oci.digest import Digest
from shared.oci.platform import Platform

# The largest value of PostgreSQL's bigint.
MAX_SIZE = 2**63 - 1
_MAX_URLS = 16
_MAX_URL_CHARACTERS = 8192
# Room for signatures with their certificates.
_MAX_ANNOTATION_CHARACTERS = 1024 * 1024
_ATTESTATION = "vnd.docker.reference.type"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A reference to a blob. `size` is in bytes. `data`: the verified bytes of the blob, if the
    document embeds them.
    """

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)
    urls: tuple[str, ...] = ()
    data: bytes | None = None
    artifact_type: str | None = None

    @property
    def is_attestation(self) -> bool:
        """Whether this entry of an index is one of BuildKit's attestations and not an image."""
        return _ATTESTATION in self.annotations or (
            self.platform is not None and self.platform.is_unknown
        )

    @classmethod
    def from_document(cls, document: Any) -> "Descriptor":
        """Parse and check a descriptor. Raises InvalidManifest, TooLarge, and UnsupportedAlgorithm
        for its digest.
        """
        if not isinstance(document, dict):
            raise InvalidManifest("A descriptor in the image's documents is not an object.")
        digest = _digest(document)
        size = document.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_SIZE:
            raise InvalidManifest(f"The descriptor of {digest} has no usable size.")
        return cls(
            media_type=text_of(document, "mediaType", required=True) or "",
            digest=digest,
            size=size,
            platform=_platform(document, digest),
            annotations=annotations_of(document),
            urls=_urls(document, digest),
            data=_data(document, digest, size),
            artifact_type=text_of(document, "artifactType"),
        )


def text_of(document: Mapping[str, Any], key: str, *, required: bool = False) -> str | None:
    """The string under `key`, None if it is missing.

    Raises InvalidManifest for another type, and for a missing string with `required`.
    """
    value = document.get(key)
    if value is None and not required:
        return None
    if not isinstance(value, str):
        raise InvalidManifest(f"{key} is missing or not a string in the image's documents.")
    return value


def annotations_of(document: Mapping[str, Any]) -> Mapping[str, str]:
    """The annotations; empty if the document has none. Raises InvalidManifest, TooLarge."""
    annotations = document.get("annotations")
    if annotations is None:
        return {}
    if not isinstance(annotations, dict) or not all(
        isinstance(value, str) for value in annotations.values()
    ):
        raise InvalidManifest(
            "The annotations in the image's documents are not an object of strings."
        )
    if sum(map(len, [*annotations, *annotations.values()])) > _MAX_ANNOTATION_CHARACTERS:
        raise TooLarge(
            f"The annotations in the image's documents have more than {_MAX_ANNOTATION_CHARACTERS} "
            "characters."
        )
    return annotations


def _digest(document: Mapping[str, Any]) -> Digest:
    try:
        return Digest.parse(text_of(document, "digest", required=True) or "")
    except InvalidDigest as error:
        raise InvalidManifest(f"A descriptor has a malformed digest: {error.message}") from error


def _platform(document: Mapping[str, Any], digest: Digest) -> Platform | None:
    platform = document.get("platform")
    if platform is None:
        return None
    if not isinstance(platform, dict):
        raise InvalidManifest(f"The platform of {digest} is not an object.")
    parsed = Platform.from_document(platform)
    # Go's encoder writes a missing platform as two empty strings.
    return parsed if parsed.os or parsed.architecture else None


def _urls(document: Mapping[str, Any], digest: Digest) -> tuple[str, ...]:
    urls = document.get("urls")
    if urls is None:
        return ()
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise InvalidManifest(f"The urls of {digest} are not a list of strings.")
    if len(urls) > _MAX_URLS:
        raise TooLarge(f"{digest} has {len(urls)} urls; at most {_MAX_URLS} are accepted.")
    if any(len(url) > _MAX_URL_CHARACTERS for url in urls):
        raise TooLarge(f"{digest} has a url of more than {_MAX_URL_CHARACTERS} characters.")
    return tuple(urls)


def _data(document: Mapping[str, Any], digest: Digest, size: int) -> bytes | None:
    encoded = text_of(document, "data")
    if encoded is None:
        return None
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidManifest(f"The embedded data of {digest} is not base64.") from error
    if len(data) != size or Digest.of(data, digest.algorithm) != digest:
        raise InvalidManifest(f"The embedded data of {digest} does not match its descriptor.")
    return data

"""Descriptors: what a document says of a blob that it points to.

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

# What PostgreSQL's bigint holds.
MAX_SIZE = 2**63 - 1
_MAX_URLS = 16
_MAX_URL_CHARACTERS = 8192
# Signatures and their certificates stand in annotations; more than this is no note.
_MAX_ANNOTATION_CHARACTERS = 1024 * 1024
_ATTESTATION = "vnd.docker.reference.type"


@dataclass(frozen=True, slots=True)
class Descriptor:
    """`size` in bytes. `data`: the blob itself where the document embeds it, verified."""

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
        """An entry of an index that is no image: BuildKit's attestations."""
        return _ATTESTATION in self.annotations or (
            self.platform is not None and self.platform.is_unknown
        )

    @classmethod
    def from_document(cls, document: Any) -> "Descriptor":
        """Raises InvalidManifest, TooLarge, and UnsupportedAlgorithm for its digest."""
        if not isinstance(document, dict):
            raise InvalidManifest("A descriptor in the image's documents is no object.")
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
    """The text under `key`. Raises InvalidManifest where it is none, or missing but required."""
    value = document.get(key)
    if value is None and not required:
        return None
    if not isinstance(value, str):
        raise InvalidManifest(f"{key} is missing or no text in the image's documents.")
    return value


def annotations_of(document: Mapping[str, Any]) -> Mapping[str, str]:
    """The annotations, empty where there are none. Raises InvalidManifest, TooLarge."""
    annotations = document.get("annotations")
    if annotations is None:
        return {}
    if not isinstance(annotations, dict) or not all(
        isinstance(value, str) for value in annotations.values()
    ):
        raise InvalidManifest("The annotations in the image's documents are no object of texts.")
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
        raise InvalidManifest(f"The platform of {digest} is no object.")
    read = Platform.from_document(platform)
    # Two empty texts are how Go's encoder writes none.
    return read if read.os or read.architecture else None


def _urls(document: Mapping[str, Any], digest: Digest) -> tuple[str, ...]:
    urls = document.get("urls")
    if urls is None:
        return ()
    if not isinstance(urls, list) or not all(isinstance(url, str) for url in urls):
        raise InvalidManifest(f"The urls of {digest} are no list of texts.")
    if len(urls) > _MAX_URLS:
        raise TooLarge(f"{digest} has {len(urls)} urls; {_MAX_URLS} are the most.")
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

"""From bytes to an index or a manifest. A document must be one of them without doubt.

A text that reads as an index for one client and as a manifest for another hides content
(CVE-2021-41190), so mixtures, and a `mediaType` that contradicts the Content-Type, are refused.
"""

from collections.abc import Mapping
from typing import Any

from shared.errors import InvalidManifest, UnsupportedMediaType
from shared.oci import media_type as types
from shared.oci.descriptor import text_of
from shared.oci.index import Index
from shared.oci.json_document import parse_object
from shared.oci.manifest import Manifest


def read_document(raw: bytes, content_type: str | None) -> Index | Manifest:
    """Read what a registry served, or the volume holds (`content_type` None).

    Raises InvalidManifest, UnsupportedMediaType, UnsupportedAlgorithm, TooLarge.
    """
    document = parse_object(raw, "manifest")
    media_type = _media_type(document, types.bare(content_type))
    if document.get("schemaVersion") != 2:
        raise InvalidManifest("The manifest's schemaVersion is not 2.")
    if media_type in types.INDEX_TYPES:
        return Index.from_document(document, media_type)
    return Manifest.from_document(document, media_type)


def _media_type(document: Mapping[str, Any], served: str) -> str:
    stated = (text_of(document, "mediaType") or "").lower()
    version = document.get("schemaVersion")
    if version == 1 or "fsLayers" in document or types.SCHEMA1_TYPES & {stated, served}:
        raise UnsupportedMediaType(
            "This image has a schema 1 manifest, which registries gave up years ago: "
            "push it again with a current client."
        )
    if stated and served and stated != served:
        raise InvalidManifest(
            f"The manifest calls itself {stated}, the registry serves it as {served}."
        )
    media_type = stated or served or _by_shape(document)
    if media_type not in types.INDEX_TYPES | types.MANIFEST_TYPES:
        raise UnsupportedMediaType(f"towline does not read documents of type {media_type}.")
    _refuse_mixture(document, is_index=media_type in types.INDEX_TYPES)
    return media_type


def _by_shape(document: Mapping[str, Any]) -> str:
    """OCI documents may leave their mediaType out."""
    return types.OCI_INDEX if "manifests" in document else types.OCI_MANIFEST


def _refuse_mixture(document: Mapping[str, Any], *, is_index: bool) -> None:
    foreign = {"config", "layers"} if is_index else {"manifests"}
    for key in sorted(foreign & set(document)):
        kind = "index" if is_index else "manifest"
        raise InvalidManifest(f"The document is a mixture: {kind} with {key}.")

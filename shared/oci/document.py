"""Reads bytes as an index or a manifest. A document must be exactly one of the two.

A document that some clients read as an index and others as a manifest can hide content
(CVE-2021-41190). So two kinds of documents are refused: those with fields of both, and those whose
`mediaType` contradicts the Content-Type.
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
    """Parse an index or a manifest. `content_type`: as served, None for one from the volume.

    Raises InvalidManifest, UnsupportedMediaType, UnsupportedAlgorithm, TooLarge.
    """
    document = parse_object(raw, "manifest")
    media_type = _media_type(document, types.without_parameters(content_type))
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
            "This image has a schema 1 manifest, a format that is obsolete: push the image again "
            "with a current client."
        )
    if stated and served and stated != served:
        raise InvalidManifest(
            f"The manifest states its type as {stated}, but the registry serves it as {served}."
        )
    media_type = stated or served or _by_shape(document)
    if media_type not in types.INDEX_TYPES | types.MANIFEST_TYPES:
        raise UnsupportedMediaType(f"towline does not read documents of type {media_type}.")
    _refuse_mixture(document, is_index=media_type in types.INDEX_TYPES)
    return media_type


def _by_shape(document: Mapping[str, Any]) -> str:
    """The type of a document without a mediaType, which is optional in OCI documents."""
    return types.OCI_INDEX if "manifests" in document else types.OCI_MANIFEST


def _refuse_mixture(document: Mapping[str, Any], *, is_index: bool) -> None:
    foreign = {"config", "layers"} if is_index else {"manifests"}
    for key in sorted(foreign & set(document)):
        kind = "index" if is_index else "manifest"
        raise InvalidManifest(
            f"The document mixes an index and a manifest: its type is {kind}, but it has {key}."
        )

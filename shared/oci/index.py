"""Indexes: one reference, many platforms. Source: image-spec v1.1, "Image Index"."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidManifest, TooLarge
from shared.oci import media_type as types
from shared.oci.descriptor import Descriptor, annotations_of
from shared.oci.platform import Platform

# Indexes may hold indexes; nobody nests them deeper for a reason.
MAX_DEPTH = 3
_MAX_MANIFESTS = 1024
_MAX_SHOWN = 32


@dataclass(frozen=True, slots=True)
class Index:
    """An index or Docker manifest list. `document`: the JSON it was read from."""

    media_type: str
    schema_version: int
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    document: Mapping[str, Any]

    @classmethod
    def from_document(cls, document: Mapping[str, Any], media_type: str) -> "Index":
        """Raises InvalidManifest, TooLarge."""
        manifests = document.get("manifests")
        if not isinstance(manifests, list):
            raise InvalidManifest("The index has no list of manifests.")
        if len(manifests) > _MAX_MANIFESTS:
            raise TooLarge(
                f"The index lists {len(manifests)} manifests; {_MAX_MANIFESTS} are the most."
            )
        return cls(
            media_type=media_type,
            schema_version=2,
            manifests=tuple(Descriptor.from_document(entry) for entry in manifests),
            annotations=annotations_of(document),
            document=document,
        )

    def candidates(self, platform: Platform) -> list[Descriptor]:
        """What may serve `platform`, the best first; of equals the first in the index wins.

        Entries without a platform come last: only their config, or their own index, tells. An
        artifact beside images is what is said about them (a signature, a list of parts), no image.
        """
        ranked = []
        undecided = []
        holds_images = any(self._images())
        for entry in self.manifests:
            if entry.is_attestation or entry.media_type not in _READABLE:
                continue
            if entry.platform is None:
                if not (entry.artifact_type and holds_images):
                    undecided.append(entry)
                continue
            closeness = platform.closeness(entry.platform)
            if closeness is not None:
                ranked.append((closeness, entry))
        ranked.sort(key=lambda pair: pair[0])
        return [entry for _, entry in ranked] + undecided

    def platforms(self) -> list[str]:
        """The platforms in here, for people: in the index's order, the first of very many."""
        named = list(dict.fromkeys(str(entry.platform) for entry in self._images()))
        more = len(named) - _MAX_SHOWN
        return named if more <= 0 else [*named[:_MAX_SHOWN], f"and {more} more"]

    def _images(self) -> Iterator[Descriptor]:
        """The entries that say which platform they are for."""
        for entry in self.manifests:
            if entry.platform is not None and not entry.is_attestation:
                yield entry


# An index may list what we cannot read; that is no error (image-spec, "Image Index").
_READABLE = types.INDEX_TYPES | types.MANIFEST_TYPES

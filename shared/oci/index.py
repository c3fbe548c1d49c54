"""Indexes: lists of manifests, one for each platform. Source: image-spec v1.1, "Image Index"."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidManifest, TooLarge
from shared.oci import media_type as types
from shared.oci.descriptor import Descriptor, annotations_of
from shared.oci.platform import Platform

# Indexes may contain indexes, nested this deep at most.
MAX_DEPTH = 3
_MAX_MANIFESTS = 1024
_MAX_SHOWN = 32


@dataclass(frozen=True, slots=True)
class Index:
    """An index or a Docker manifest list. `document`: the JSON that it was parsed from."""

    media_type: str
    schema_version: int
    manifests: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    document: Mapping[str, Any]

    @classmethod
    def from_document(cls, document: Mapping[str, Any], media_type: str) -> "Index":
        """Return the index that this JSON holds. Raises InvalidManifest, TooLarge."""
        manifests = document.get("manifests")
        if not isinstance(manifests, list):
            raise InvalidManifest("The index has no list of manifests.")
        if len(manifests) > _MAX_MANIFESTS:
            raise TooLarge(
                f"The index lists {len(manifests)} manifests; at most {_MAX_MANIFESTS} are "
                "accepted."
            )
        return cls(
            media_type=media_type,
            schema_version=2,
            manifests=tuple(Descriptor.from_document(entry) for entry in manifests),
            annotations=annotations_of(document),
            document=document,
        )

    def candidates(self, platform: Platform) -> list[Descriptor]:
        """The entries that may be for `platform`, best first; equal ones in the index's order.

        Entries without a platform come last: only their own config or index shows their platform.
        The result leaves out attestations, entries of unknown media types and, in an index with
        images, artifacts without a platform: those are signatures or SBOMs of the images.
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
        """The platforms for a message, in the index's order. A long list is cut off."""
        names = list(dict.fromkeys(str(entry.platform) for entry in self._images()))
        more = len(names) - _MAX_SHOWN
        return names if more <= 0 else [*names[:_MAX_SHOWN], f"and {more} more"]

    def _images(self) -> Iterator[Descriptor]:
        """The entries with a platform, without attestations."""
        for entry in self.manifests:
            if entry.platform is not None and not entry.is_attestation:
                yield entry


# Entries of other media types are allowed in an index and ignored (image-spec, "Image Index").
_READABLE = types.INDEX_TYPES | types.MANIFEST_TYPES

"""Manifests: one image or one artifact. Source: image-spec v1.1, "Image Manifest"."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidManifest, TooLarge
from shared.oci import media_type as types
from shared.oci.config import ImageConfig
from shared.oci.descriptor import MAX_SIZE, Descriptor, annotations_of, text_of
from shared.oci.digest import Digest

# Runtimes accept images of at most 127 layers, but artifacts have one layer for each file.
_MAX_LAYERS = 4096


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest. `document`: the JSON that it was parsed from."""

    media_type: str
    schema_version: int
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str]
    artifact_type: str | None
    document: Mapping[str, Any]

    @classmethod
    def from_document(cls, document: Mapping[str, Any], media_type: str) -> "Manifest":
        """Return the manifest that this JSON holds. Raises InvalidManifest, TooLarge."""
        layers = document.get("layers")
        if layers is None:
            layers = []
        if not isinstance(layers, list):
            raise InvalidManifest("The layers of the manifest are not a list.")
        if len(layers) > _MAX_LAYERS:
            raise TooLarge(
                f"The manifest lists {len(layers)} layers; at most {_MAX_LAYERS} are accepted."
            )
        manifest = cls(
            media_type=media_type,
            schema_version=2,
            config=Descriptor.from_document(document.get("config")),
            layers=tuple(Descriptor.from_document(layer) for layer in layers),
            annotations=annotations_of(document),
            artifact_type=text_of(document, "artifactType"),
            document=document,
        )
        _check_sizes(manifest)
        return manifest

    @property
    def is_image(self) -> bool:
        """Whether the config is an image config; otherwise this is an artifact."""
        return self.config.media_type in types.IMAGE_CONFIG_TYPES

    @property
    def distinct_layers(self) -> tuple[Descriptor, ...]:
        """The layers without repeated blobs, in the order of their first positions."""
        distinct: dict[Digest, Descriptor] = {}
        for layer in self.layers:
            distinct.setdefault(layer.digest, layer)
        return tuple(distinct.values())

    @property
    def total_size_bytes(self) -> int:
        """The size of the config and the distinct layers together."""
        return self.config.size + sum(layer.size for layer in self.distinct_layers)


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer at its position; 0 is the base. `diff_id`: what the config claims, or None."""

    position: int
    descriptor: Descriptor
    diff_id: Digest | None


def layers_with_diff_ids(manifest: Manifest, config: ImageConfig | None) -> tuple[Layer, ...]:
    """The layers by position, with the diff_ids that the config claims. `config`: None for an
    artifact.

    Raises InvalidManifest if their numbers differ.
    """
    diff_ids: tuple[Digest | None, ...] = (None,) * len(manifest.layers)
    if config is not None:
        diff_ids = config.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise InvalidManifest(
            f"The manifest lists {len(manifest.layers)} layers, but its config {len(diff_ids)} "
            "diff_ids: the image is damaged, push it again."
        )
    return tuple(
        Layer(position, layer, diff_id)
        for position, (layer, diff_id) in enumerate(zip(manifest.layers, diff_ids, strict=True))
    )


def _check_sizes(manifest: Manifest) -> None:
    """Raises InvalidManifest if a digest has two sizes, or if the sum does not fit a bigint."""
    sizes: dict[Digest, int] = {}
    for layer in manifest.layers:
        if sizes.setdefault(layer.digest, layer.size) != layer.size:
            raise InvalidManifest(f"The manifest gives {layer.digest} two different sizes.")
    if manifest.total_size_bytes > MAX_SIZE:
        raise InvalidManifest("The layers of the manifest are larger than any volume.")

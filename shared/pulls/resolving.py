"""Resolve a reference to one manifest for a platform, and its config.

These documents are small, and each is verified. A document that is named by digest is fetched from
the registry once only: if the catalog says that it is stored, it is read from the volume.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from shared.catalog.content import stored_blobs
from shared.catalog.model.pull_values import Pull
from shared.errors import InvalidManifest, PlatformNotFound, TooLarge
from shared.oci.config import ImageConfig
from shared.oci.descriptor import Descriptor
from shared.oci.digest import Digest
from shared.oci.document import read_document
from shared.oci.index import MAX_DEPTH, Index
from shared.oci.manifest import Manifest
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from shared.pulls.context import Context
from shared.registry.client import Document

DOCUMENT_LIMIT_BYTES = 4 * 1024 * 1024
CONFIG_LIMIT_BYTES = 8 * 1024 * 1024

_EMPTY = b"{}"

# Manifests and nested indexes that one resolution may read. If an index does not name platforms,
# every entry has to be read.
_MOST_DOCUMENTS = 64


@dataclass(frozen=True, slots=True)
class Found:
    """A document: its bytes as served, and what they parse to."""

    digest: Digest
    raw: bytes
    document: Index | Manifest


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a reference means for a platform.

    `index`: the index that the reference names; None if it names a manifest. `config`: None for an
    artifact. `resolved_at`: the database's time just before the registry was asked.
    """

    index: Found | None
    manifest_digest: Digest
    manifest_raw: bytes
    manifest: Manifest
    config_raw: bytes
    config: ImageConfig | None
    resolved_at: datetime

    @property
    def documents(self) -> Iterable[tuple[Digest, bytes]]:
        """The documents to store as blobs: index, config, manifest."""
        if self.index is not None:
            yield self.index.digest, self.index.raw
        yield self.manifest.config.digest, self.config_raw
        yield self.manifest_digest, self.manifest_raw

    @property
    def embedded_layers(self) -> Iterable[tuple[Digest, bytes]]:
        """The layers whose verified bytes are in the manifest itself, so that no request for them
        is needed.
        """
        for layer in self.manifest.distinct_layers:
            if layer.data is not None:
                yield layer.digest, layer.data


def resolve(
    context: Context,
    reference: Reference,
    platform: Platform,
    resolved_at: datetime,
    named: Document | None = None,
) -> Resolution:
    """Resolve the reference. `named`: the document that it names, if fetched already.

    Raises PlatformNotFound, InvalidManifest, TooLarge, and what the registry raises.
    """
    named = named or context.registry.manifest(reference)
    return _Resolver(context, reference, platform, resolved_at).resolve(named)


def read_resolution(context: Context, pull: Pull) -> Resolution:
    """The resolution of a planned pull, read from the volume again.

    Raises InvalidManifest for a pull without one.
    """
    if pull.manifest_digest is None or pull.resolved_at is None or pull.platform is None:
        raise InvalidManifest(f"The pull {pull.id} is not resolved yet.")
    reference, platform = Reference.parse(pull.reference), Platform.parse(pull.platform)
    resolver = _Resolver(context, reference, platform, pull.resolved_at)
    resolution = resolver.chosen(resolver.stored(Digest.parse(pull.manifest_digest)))
    if pull.index_digest is None:
        return resolution
    return replace(resolution, index=resolver.stored(Digest.parse(pull.index_digest)))


@dataclass(slots=True)
class _Resolver:
    context: Context
    reference: Reference
    platform: Platform
    resolved_at: datetime
    # How many entries of indexes were read, and the platforms that only their configs named.
    documents: int = 0
    told: list[str] = field(default_factory=list)

    def resolve(self, named: Document) -> Resolution:
        """Find the manifest for the platform, and its config, in what the reference names."""
        found = self._read(named)
        if isinstance(found.document, Manifest):
            resolution = self.chosen(found)
            have = resolution.config.platform if resolution.config else None
            if have is not None and not self.platform.matches(have):
                raise self._not_found([str(have)])
            return resolution
        resolution_in_index = self._search(found.document, depth=1)
        if resolution_in_index is None:
            raise self._not_found([*found.document.platforms(), *self.told])
        return replace(resolution_in_index, index=found)

    def _search(self, index: Index, depth: int) -> Resolution | None:
        """The first candidate that serves the platform; nested indexes are searched as well."""
        for candidate in index.candidates(self.platform):
            found = self._by_descriptor(candidate)
            if isinstance(found.document, Index):
                if depth >= MAX_DEPTH:
                    raise InvalidManifest(
                        f"The index of {self.reference} is nested more than {MAX_DEPTH} deep."
                    )
                resolution = self._search(found.document, depth + 1)
            else:
                resolution = self.chosen(found)
                if candidate.platform is None and not self._fits(resolution, index):
                    continue
            if resolution is not None:
                return resolution
        return None

    def _fits(self, resolution: Resolution, index: Index) -> bool:
        """Whether an entry without a platform serves ours: only its config can tell.

        An entry that is no image is taken only from an index of artifacts. Next to images it is an
        attachment, such as an SBOM or a signature.
        """
        if resolution.config is None:
            return not index.platforms()
        have = resolution.config.platform
        if have is None or self.platform.matches(have):
            return True
        self.told.append(str(have))
        return False

    def chosen(self, found: Found) -> Resolution:
        """The resolution with this manifest; its config is read from the volume or the registry."""
        manifest = found.document
        if not isinstance(manifest, Manifest):
            raise InvalidManifest(f"{found.digest} is an index where a manifest was expected.")
        config_raw = self._config(manifest.config)
        config = ImageConfig.parse(config_raw) if manifest.is_image else None
        return Resolution(
            index=None,
            manifest_digest=found.digest,
            manifest_raw=found.raw,
            manifest=manifest,
            config_raw=config_raw,
            config=config,
            resolved_at=self.resolved_at,
        )

    def _by_descriptor(self, descriptor: Descriptor) -> Found:
        self.documents += 1
        if self.documents > _MOST_DOCUMENTS:
            raise TooLarge(
                f"{self.reference} names more than {_MOST_DOCUMENTS} manifests that could be for "
                f"{self.platform}: its index must say which platform each of them is for."
            )
        if self._is_stored(descriptor.digest):
            found = self.stored(descriptor.digest)
        else:
            found = self._read(self.context.registry.manifest(self.reference, descriptor.digest))
        if len(found.raw) != descriptor.size:
            raise InvalidManifest(
                f"The index of {self.reference} promises {descriptor.size} bytes for "
                f"{descriptor.digest}, which has {len(found.raw)}."
            )
        return found

    def stored(self, digest: Digest) -> Found:
        """Read a document from the volume, by its digest."""
        raw = self.context.volume.read(digest, DOCUMENT_LIMIT_BYTES)
        return Found(digest, raw, read_document(raw, None))

    def _read(self, document: Document) -> Found:
        return Found(
            document.digest, document.raw, read_document(document.raw, document.media_type)
        )

    def _config(self, descriptor: Descriptor) -> bytes:
        if descriptor.digest == Digest.of(_EMPTY, descriptor.digest.algorithm):
            # The empty descriptor of artifacts: its bytes are known, and a registry need not serve
            # them (image-spec v1.1).
            return _EMPTY
        if self._is_stored(descriptor.digest):
            return self.context.volume.read(descriptor.digest, CONFIG_LIMIT_BYTES)
        return self.context.registry.blob(self.reference, descriptor, CONFIG_LIMIT_BYTES)

    def _is_stored(self, digest: Digest) -> bool:
        with self.context.catalog.begin() as tx:
            return digest in stored_blobs.stored(tx, [digest])

    def _not_found(self, available: list[str]) -> PlatformNotFound:
        there = ", ".join(dict.fromkeys(available)) or "no platform at all"
        return PlatformNotFound(
            f"{self.reference} has no image for {self.platform}; it has {there}."
        )

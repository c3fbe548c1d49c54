"""The image of the tests' registries, and how a client reads it."""

import os

from shared.oci.digest import Digest
from shared.oci.document import read_document
from shared.oci.index import Index
from shared.oci.manifest import Manifest
from shared.oci.reference import Reference
from shared.registry.client import RegistryClient
from tests.fakes.docker_registry import DockerRegistry
from tests.fakes.registry import FakeRegistry

# The image's only layer.
BLOB = os.urandom(300_000)
DIGEST = Digest.of(BLOB)


def name(registry: FakeRegistry | DockerRegistry, repository: str = "team/app") -> Reference:
    """The tag of the image."""
    return Reference.parse(f"{registry.host}/{repository}:1")


def read(client: RegistryClient, registry: FakeRegistry, first: int = 0) -> tuple[int, bytes]:
    """Request the layer from byte `first` on. Returns the first byte that came, and the bytes."""
    with client.open_blob(name(registry), DIGEST, len(BLOB), first) as body:
        return body.first, b"".join(body.blocks(50_000))


def manifest_behind(client: RegistryClient, tag: Reference) -> Manifest:
    """Resolve a tag to an index, then fetch the index's first manifest by its digest."""
    found = client.manifest(tag)
    index = read_document(found.raw, found.media_type)
    assert isinstance(index, Index)
    found = client.manifest(tag, index.manifests[0].digest)
    manifest = read_document(found.raw, found.media_type)
    assert isinstance(manifest, Manifest)
    return manifest

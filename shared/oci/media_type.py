"""Media types of the documents that towline reads: OCI and Docker schema 2."""

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
IMAGE_CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})
SCHEMA1_TYPES = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)

# All four on every request: strict registries answer 404 for a type that is not listed.
ACCEPT = ", ".join((OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST))

# What servers say that do not know what they serve; it contradicts nothing.
_UNSPECIFIC = frozenset(
    {
        "",
        "application/json",
        "application/octet-stream",
        "binary/octet-stream",  # S3
        "text/plain",
    }
)


def bare(content_type: str | None) -> str:
    """A Content-Type without its parameters, lower case; "" for one that says nothing."""
    text = (content_type or "").partition(";")[0].strip().lower()
    return "" if text in _UNSPECIFIC else text

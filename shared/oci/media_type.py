"""The media types of the documents that towline reads: OCI and Docker schema 2."""

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

# Every request lists all four: strict registries answer 404 if the type is not among them.
ACCEPT = ", ".join((OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST))

# The types that servers send for files of unknown type. They contradict no mediaType.
_UNSPECIFIC = frozenset(
    {
        "",
        "application/json",
        "application/octet-stream",
        "binary/octet-stream",  # S3
        "text/plain",
    }
)


def without_parameters(content_type: str | None) -> str:
    """A Content-Type without its parameters, in lower case; "" for a missing or unspecific one."""
    text = (content_type or "").partition(";")[0].strip().lower()
    return "" if text in _UNSPECIFIC else text

"""What untrusted registries may send: any JSON, and documents with one invalid place."""

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

from shared.oci import media_type as types
from shared.oci.digest import Digest

NASTY = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        2**63 - 1,
        2**63,
        10**400,
        1e308,
        float("nan"),
        float("inf"),
        7.0,
        "",
        "\0",
        "\ud800",
        "/../..",
        "a" * 5000,
        "sha256:" + "0" * 64,
        "sha1:" + "0" * 40,
        "unknown",
        [],
        {},
        [[]],
        [None],
        ["", 1],
        {"": ""},
        "e30=",
        *sorted(types.INDEX_TYPES | types.MANIFEST_TYPES | types.SCHEMA1_TYPES),
    ]
)
JSON: st.SearchStrategy[Any] = st.recursive(
    NASTY | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def descriptor(media_type: str, seed: str, **more: Any) -> dict[str, Any]:
    """A descriptor with arbitrary valid values."""
    digest = str(Digest.of(seed.encode()))
    return {"mediaType": media_type, "digest": digest, "size": 7, **more}


WINDOWS = {
    "os": "windows",
    "architecture": "amd64",
    "os.version": "10.0.20348.1",
    "os.features": ["win32k"],
}
ATTESTATION = {"vnd.docker.reference.type": "attestation-manifest"}
INDEX = {
    "schemaVersion": 2,
    "mediaType": types.OCI_INDEX,
    "manifests": [
        descriptor(types.OCI_MANIFEST, "a", platform={"os": "linux", "architecture": "amd64"}),
        descriptor(types.DOCKER_MANIFEST, "b", platform=WINDOWS),
        descriptor(types.OCI_INDEX, "c", annotations=ATTESTATION, artifactType="application/x"),
        descriptor(
            types.OCI_MANIFEST,
            "d",
            platform={"os": "linux", "architecture": "arm64", "variant": "v9.2"},
        ),
    ],
    "annotations": {"org.opencontainers.image.title": "x"},
}
MANIFEST = {
    "schemaVersion": 2,
    "mediaType": types.OCI_MANIFEST,
    "artifactType": "application/x",
    "config": {
        **descriptor(types.OCI_CONFIG, "{}", size=2),
        "data": "e30=",
    },
    "layers": [
        descriptor("application/vnd.oci.image.layer.v1.tar+gzip", "a", urls=["https://u.example"]),
        descriptor("application/vnd.oci.image.layer.v1.tar+zstd", "b", annotations={"a": "b"}),
    ],
    "annotations": {"a": "b"},
    "subject": descriptor(types.OCI_MANIFEST, "subject"),
}
CONFIG = {
    "created": "2024-01-31T23:59:59.123456789Z",
    "os": "linux",
    "architecture": "arm64",
    "variant": "v8",
    "os.version": "10.0.1",
    "os.features": ["a"],
    "config": {
        "Env": ["A=b"],
        "Cmd": ["sh"],
        "Entrypoint": ["/x"],
        "WorkingDir": "/",
        "User": "0",
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/v": {}},
        "Labels": {"a": "b"},
        "StopSignal": "SIGTERM",
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64, "sha512:" + "2" * 128]},
    "history": [{"created_by": "x", "empty_layer": True}],
}


def places(document: Any) -> Iterator[Sequence[Any]]:
    """The path to every value in a document."""
    children = document.items() if isinstance(document, dict) else enumerate(document)
    for key, child in children:
        yield (key,)
        if isinstance(child, dict | list):
            yield from ((key, *rest) for rest in places(child))


@st.composite
def nearly(draw: st.DrawFn, document: Any) -> Any:
    """The document with one value changed, removed or added."""
    mutant = copy.deepcopy(document)
    *way, last = draw(st.sampled_from(list(places(document))))
    parent = mutant
    for key in way:
        parent = parent[key]
    change = draw(st.sampled_from(["replace", "remove", "add"]))
    if change == "replace":
        parent[last] = draw(JSON)
    elif change == "remove":
        del parent[last]
    elif isinstance(parent, dict):
        names = st.sampled_from(["manifests", "layers", "config", "fsLayers", "platform", "data"])
        parent[draw(names | st.text(max_size=4))] = draw(JSON)
    else:
        parent.append(draw(JSON))
    return mutant


@st.composite
def spoilt(draw: st.DrawFn, document: Any) -> bytes:
    """The document's bytes with some changed, removed or cut off."""
    raw = bytearray(json.dumps(document).encode())
    at = draw(st.integers(0, len(raw) - 1))
    length = draw(st.integers(0, 4))
    raw[at : at + length] = draw(st.binary(max_size=4))
    return bytes(raw[: draw(st.none() | st.integers(0, len(raw)))])

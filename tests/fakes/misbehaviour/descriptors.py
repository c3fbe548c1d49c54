"""The descriptors of layers in a manifest: sizes, digests, URLs, and their number."""

import base64
from collections.abc import Callable
from typing import Any

from tests.fakes.faults import NoContentLength
from tests.fakes.misbehaviour.misbehaving import Misbehaviour
from tests.fakes.misbehaviour.promise import completes, refuses
from tests.fakes.misbehaviour.scene import METADATA_HOST, Scene
from tests.fakes.registry import OCI_LAYER, digest_of

_FOREIGN = "application/vnd.oci.image.layer.nondistributable.v1.tar"


def _first_layer(**members: Any) -> Callable[[Scene], object]:
    """Change members of the first layer's descriptor."""
    return lambda scene: scene.rewrite(lambda document: document["layers"][0].update(members))


def _sized(difference: int) -> Callable[[Scene], object]:
    """Make the first layer's size in the manifest wrong by `difference` bytes."""

    def change(document: dict[str, Any]) -> None:
        document["layers"][0]["size"] += difference

    return lambda scene: scene.rewrite(change)


def _layers(arrange: Callable[[list[bytes]], list[bytes]], **changes: Any) -> Callable[..., object]:
    """Replace the layers of the image."""

    def arranged(scene: Scene) -> None:
        scene.layers = arrange(scene.layers)
        scene.bring(**changes)

    return arranged


def _one_layer_less(scene: Scene) -> None:
    def change(document: dict[str, Any]) -> None:
        document["layers"].pop()

    scene.rewrite(change)
    scene.layers.pop()


def _inline(change: Callable[[bytes], bytes]) -> Callable[[Scene], object]:
    """Embed the config in the manifest, changed."""

    def arrange(scene: Scene) -> None:
        def embed(document: dict[str, Any]) -> None:
            raw = scene.registry.blobs[document["config"]["digest"]]
            document["config"]["data"] = base64.b64encode(change(raw)).decode()

        scene.rewrite(embed)

    return arrange


def _ten_thousand(scene: Scene) -> None:
    """A manifest with ten thousand layers, none of which the registry has."""

    def change(document: dict[str, Any]) -> None:
        document["layers"] = [
            {"mediaType": OCI_LAYER, "digest": digest_of(str(number).encode()), "size": 1}
            for number in range(10_000)
        ]

    digests = [digest_of(str(number).encode()) for number in range(10_000)]
    scene.rewrite(change, config={"rootfs": {"type": "layers", "diff_ids": digests}})


def _foreign(url: str, *, held: bool) -> Callable[[Scene], object]:
    """The first layer is at another URL. `held`: the registry has it as well."""

    def arrange(scene: Scene) -> None:
        place = url.format(storage=scene.storage.host, digest=scene.large)
        scene.log_in()
        _first_layer(mediaType=_FOREIGN, urls=[place])(scene)
        if held:
            scene.unasked.append(scene.storage)
        else:
            del scene.registry.blobs[scene.large]

    return arrange


_ELSEWHERE = "http://{storage}/v2/other/blobs/{digest}"


def _missing(scene: Scene) -> None:
    del scene.registry.blobs[scene.large]


def _unsized(scene: Scene) -> None:
    _sized(1000)(scene)
    scene.fail(NoContentLength())


ALL: tuple[Misbehaviour, ...] = (
    Misbehaviour(
        "layer-larger-than-said",
        "has a layer with 1000 bytes more than the manifest states",
        refuses("SizeMismatch", "keeps no excess byte"),
        _sized(-1000),
    ),
    Misbehaviour(
        "layer-smaller-than-said",
        "has a layer with 1000 bytes less than the manifest states",
        refuses("SizeMismatch", "fails before the first byte"),
        _sized(1000),
    ),
    Misbehaviour(
        "layer-smaller-than-said-and-chunked",
        "does the same, without a `Content-Length`",
        refuses("SizeMismatch", "requests the rest, and learns that there is none"),
        _unsized,
    ),
    Misbehaviour(
        "layer-missing",
        "does not have a layer that its manifest names",
        refuses("BlobUnknown", "fails at once", requests=5),
        _missing,
    ),
    Misbehaviour(
        "layer-twice",
        "has the same layer at two positions of the image",
        completes("fetches it once", requests=5, refetched_bytes=0),
        _layers(lambda layers: [*layers, layers[0]]),
    ),
    Misbehaviour(
        "layer-empty",
        "has a layer of no bytes",
        completes("accepts size 0 and sends no request", requests=5),
        _layers(lambda layers: [layers[0], b"", layers[1]]),
    ),
    Misbehaviour(
        "layer-of-sha512",
        "names its layers by sha512",
        completes("verifies them with sha512", requests=5),
        _layers(lambda layers: layers, algorithm="sha512"),
    ),
    Misbehaviour(
        "layer-of-md5",
        "names a layer by md5",
        refuses("UnsupportedAlgorithm", "accepts no digest that proves nothing", requests=3),
        _first_layer(digest=f"md5:{'0' * 32}"),
    ),
    Misbehaviour(
        "layer-digest-climbs",
        "names a layer `sha256:../../../etc/passwd`",
        refuses(
            "InvalidManifest", "refuses it before it becomes part of a path or URL", requests=3
        ),
        _first_layer(digest="sha256:../../../etc/passwd"),
    ),
    Misbehaviour(
        "layer-of-negative-size",
        "states that a layer has -1 bytes",
        refuses("InvalidManifest", "fails before any layer is fetched", requests=3),
        _first_layer(size=-1),
    ),
    Misbehaviour(
        "layer-of-2^70-bytes",
        "states that a layer has 2^70 bytes",
        refuses("InvalidManifest", "fails before any layer is fetched", requests=3),
        _first_layer(size=2**70),
    ),
    Misbehaviour(
        "layers-beyond-count",
        "lists 10 000 layers",
        refuses("TooLarge", "accepts at most 4096", requests=3, is_choice=True),
        _ten_thousand,
        takes_time=True,
    ),
    Misbehaviour(
        "layers-fewer-than-diff-ids",
        "lists one layer less than its config",
        refuses("InvalidManifest", "fails before any layer is fetched", requests=3, is_choice=True),
        _one_layer_less,
    ),
    Misbehaviour(
        "config-inline",
        "embeds the config in the manifest",
        completes("verifies it and sends no request for it", requests=4),
        _inline(lambda raw: raw),
    ),
    Misbehaviour(
        "config-inline-wrong",
        "embeds a config other than the one that the manifest names",
        refuses("InvalidManifest", "verifies it", requests=3, is_choice=True),
        _inline(lambda raw: raw[:-1] + b" "),
    ),
    Misbehaviour(
        "foreign-layer",
        "does not have a layer, but states by `urls` where it can be found",
        completes("fetches it there, without credentials", requests=10),
        _foreign(_ELSEWHERE, held=False),
    ),
    Misbehaviour(
        "foreign-layer-of-its-own",
        "has the layer, and names another place as well",
        completes("tries the registry first", requests=10, is_choice=True),
        _foreign(_ELSEWHERE, held=True),
    ),
    Misbehaviour(
        "foreign-layer-at-metadata",
        f"states that a layer is at `http://{METADATA_HOST}/…`",
        refuses("RegistryNotAllowed", "never connects to a link-local address"),
        _foreign(f"http://{METADATA_HOST}/latest/", held=False),
    ),
)

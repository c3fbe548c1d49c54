"""Indexes that go round in circles, or list strange things, and tags that move."""

from typing import Any

from tests.fakes.answers import Answer, Request
from tests.fakes.faults import Spoil
from tests.fakes.misbehaviour.misbehaving import Misbehaviour
from tests.fakes.misbehaviour.promise import completes, refuses
from tests.fakes.misbehaviour.scene import REPOSITORY, Scene
from tests.fakes.registry import OCI_INDEX, OCI_MANIFEST, digest_of

_UNKNOWN_TYPE = "application/vnd.example.v9+json"


def _indexed(scene: Scene, *before: dict[str, Any], platform: str | None = "linux/amd64") -> str:
    """The tag names an index of the image, behind these other entries. The manifest's digest."""
    digest = scene.bring()
    entry = scene.registry.descriptor(REPOSITORY, digest, platform)
    scene.registry.put_index(REPOSITORY, "1", [*before, entry])
    return digest


def _wrong_manifest(scene: Scene) -> None:
    def change(answer: Answer, _: Request) -> None:
        answer.body += b" "

    _indexed(scene)
    scene.fail(Spoil(path="/manifests/sha256:", change=change))


def _endless_index(scene: Scene) -> None:
    """Whatever digest is asked for, the index itself comes, which names another one."""

    def change(answer: Answer, _: Request) -> None:
        answer.body = scene.registry.manifests[REPOSITORY, "1"][1]
        answer.headers["Content-Type"] = OCI_INDEX

    _indexed(scene)
    scene.fail(Spoil(path="/manifests/sha256:", change=change))


def _deep_index(scene: Scene) -> None:
    _indexed(scene)
    for _ in range(8):
        raw = scene.registry.manifests[REPOSITORY, "1"][1]
        entry = {"mediaType": OCI_INDEX, "digest": digest_of(raw), "size": len(raw)}
        scene.registry.put_index(REPOSITORY, "1", [entry])


def _odd_index(scene: Scene) -> None:
    attestation = scene.registry.put_manifest(REPOSITORY, None, {"layers": []}, OCI_MANIFEST)
    entry = scene.registry.descriptor(REPOSITORY, attestation, "unknown/unknown")
    unknown = scene.registry.put_manifest(REPOSITORY, None, {"is": "new"}, _UNKNOWN_TYPE)
    strange = scene.registry.descriptor(REPOSITORY, unknown, None)
    _indexed(scene, strange, entry)


def _moving_tag(scene: Scene) -> None:
    """Once the tag was read, it names another image."""

    def change(answer: Answer, _: Request) -> None:
        scene.registry.put_image(REPOSITORY, "1", [b"of another image"])

    _indexed(scene)
    scene.fail(Spoil(path="/manifests/1$", change=change, times=1))


ALL: tuple[Misbehaviour, ...] = (
    Misbehaviour(
        "manifest-of-another-digest",
        "serves a manifest with one byte more than its digest is of",
        refuses("DigestMismatch", "believes the digest"),
        _wrong_manifest,
    ),
    Misbehaviour(
        "index-too-deep",
        "nests indexes nine deep",
        refuses("InvalidManifest", "three are enough", is_choice=True),
        _deep_index,
    ),
    Misbehaviour(
        "index-of-itself",
        "answers with the index, whatever manifest of it is asked for",
        refuses("DigestMismatch", "does not go round in it"),
        _endless_index,
    ),
    Misbehaviour(
        "index-with-strange-entries",
        "lists an unknown type and an attestation before the image",
        completes("passes over what is no image", requests=6),
        _odd_index,
    ),
    Misbehaviour(
        "index-without-platforms",
        "does not say what platform its only entry is for",
        completes("reads it in the config", requests=6, is_choice=True),
        lambda scene: _indexed(scene, platform=None),
    ),
    Misbehaviour(
        "index-without-images",
        "lists nothing",
        refuses("PlatformNotFound", "says what there is: nothing"),
        lambda scene: scene.registry.put_index(REPOSITORY, "1", []),
    ),
    Misbehaviour(
        "tag-moves",
        "lets the tag name another image between two requests",
        completes("pulls the one that it found first, whole", requests=6),
        _moving_tag,
    ),
    Misbehaviour(
        "platform-missing",
        "has the image for another platform only",
        refuses("PlatformNotFound", "says which"),
        lambda scene: scene.registry.put_index(
            REPOSITORY, "1", {"linux/s390x": scene.bring(platform="linux/s390x")}
        ),
    ),
)

"""Indexes with loops or unknown entries, and tags that move."""

from typing import Any

from tests.fakes.answers import Answer, Request
from tests.fakes.faults import Spoil
from tests.fakes.misbehaviour.misbehaving import Misbehaviour
from tests.fakes.misbehaviour.promise import completes, refuses
from tests.fakes.misbehaviour.scene import REPOSITORY, Scene
from tests.fakes.registry import OCI_INDEX, OCI_MANIFEST, digest_of

_UNKNOWN_TYPE = "application/vnd.example.v9+json"


def _indexed(scene: Scene, *before: dict[str, Any], platform: str | None = "linux/amd64") -> str:
    """Make the tag name an index with these entries, followed by the image. Returns the manifest's
    digest.
    """
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
    """Answer a request for any digest with the index itself, which has another digest."""

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
    """Move the tag to another image after its first request."""

    def change(answer: Answer, _: Request) -> None:
        scene.registry.put_image(REPOSITORY, "1", [b"of another image"])

    _indexed(scene)
    scene.fail(Spoil(path="/manifests/1$", change=change, times=1))


ALL: tuple[Misbehaviour, ...] = (
    Misbehaviour(
        "manifest-of-another-digest",
        "serves a manifest with one byte more than its digest covers",
        refuses("DigestMismatch", "verifies the digest"),
        _wrong_manifest,
    ),
    Misbehaviour(
        "index-too-deep",
        "nests indexes nine levels deep",
        refuses("InvalidManifest", "accepts three levels", is_choice=True),
        _deep_index,
    ),
    Misbehaviour(
        "index-of-itself",
        "answers every request for one of its manifests with the index itself",
        refuses("DigestMismatch", "does not loop"),
        _endless_index,
    ),
    Misbehaviour(
        "index-with-strange-entries",
        "lists an unknown type and an attestation before the image",
        completes("skips entries that are not images", requests=6),
        _odd_index,
    ),
    Misbehaviour(
        "index-without-platforms",
        "states no platform for its only entry",
        completes("reads the platform from the config", requests=6, is_choice=True),
        lambda scene: _indexed(scene, platform=None),
    ),
    Misbehaviour(
        "index-without-images",
        "lists nothing",
        refuses("PlatformNotFound", "states that there are no platforms"),
        lambda scene: scene.registry.put_index(REPOSITORY, "1", []),
    ),
    Misbehaviour(
        "tag-moves",
        "moves the tag to another image between two requests",
        completes("pulls all of the image that it found first", requests=6),
        _moving_tag,
    ),
    Misbehaviour(
        "platform-missing",
        "has the image only for another platform",
        refuses("PlatformNotFound", "states which"),
        lambda scene: scene.registry.put_index(
            REPOSITORY, "1", {"linux/s390x": scene.bring(platform="linux/s390x")}
        ),
    ),
)

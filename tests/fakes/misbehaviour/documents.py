"""Wrong manifests and configs, and manifests with wrong headers."""

from collections.abc import Callable
from typing import Any

from tests.fakes.answers import Answer, Request
from tests.fakes.faults import Cut, Spoil, Status
from tests.fakes.misbehaviour.misbehaving import Misbehaviour
from tests.fakes.misbehaviour.promise import completes, refuses
from tests.fakes.misbehaviour.scene import REPOSITORY, Scene
from tests.fakes.registry import DOCKER_MANIFEST, OCI_MANIFEST, digest_of

_MIB = 1024 * 1024
_SCHEMA1 = {
    "schemaVersion": 1,
    "name": REPOSITORY,
    "tag": "1",
    "architecture": "amd64",
    "fsLayers": [{"blobSum": digest_of(b"")}],
    "history": [{"v1Compatibility": '{"id":"0"}'}],
}


def _served_as(content_type: str | None) -> Callable[[Scene], object]:
    """Serve manifests with this Content-Type."""

    def change(answer: Answer, _: Request) -> None:
        answer.headers.pop("Content-Type")
        if content_type is not None:
            answer.headers["Content-Type"] = content_type

    return lambda scene: scene.fail(Spoil(path="/manifests/", change=change))


def _says_digest(digest: str | None) -> Callable[[Scene], object]:
    """Serve manifests with this Docker-Content-Digest."""

    def change(answer: Answer, _: Request) -> None:
        answer.headers.pop("Docker-Content-Digest")
        if digest is not None:
            answer.headers["Docker-Content-Digest"] = digest

    return lambda scene: scene.fail(Spoil(path="/manifests/", change=change))


def _raw_manifest(change: Callable[[bytes], bytes]) -> Callable[[Scene], object]:
    """Replace the manifest by changed bytes, with the digest that fits them."""

    def arrange(scene: Scene) -> None:
        media_type, raw = scene.registry.manifests[REPOSITORY, "1"]
        scene.registry.put_manifest(REPOSITORY, "1", change(raw), media_type)

    return arrange


def _annotated(value: bytes) -> Callable[[Scene], object]:
    return _raw_manifest(lambda raw: raw[:-1] + b',"annotations":{"note":"' + value + b'"}}')


def _sized_config(scene: Scene) -> None:
    def change(document: dict[str, Any]) -> None:
        document["config"]["size"] += 1

    scene.rewrite(change)


def _nested(raw: bytes) -> bytes:
    return raw[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"


def _cut_manifest(scene: Scene) -> None:
    scene.fail(Cut(path="/manifests/", after_bytes=100, times=1))


def _html_404(scene: Scene) -> None:
    body, headers = b"<html><h1>404</h1></html>", {"Content-Type": "text/html"}
    scene.fail(Status(path="/manifests/", status=404, body=body, headers=headers))


ALL: tuple[Misbehaviour, ...] = (
    Misbehaviour(
        "manifest-missing",
        "answers 404 with a web page",
        refuses("ManifestUnknown", "goes by the status", requests=2),
        _html_404,
    ),
    Misbehaviour(
        "manifest-cut",
        "cuts a manifest, once",
        completes("fetches it again", requests=6),
        _cut_manifest,
    ),
    Misbehaviour(
        "manifest-empty",
        "answers 200 with an empty manifest",
        refuses("RegistryUnavailable", "reports a proxy as the likely cause"),
        lambda scene: scene.fail(Status(path="/manifests/", status=200)),
    ),
    Misbehaviour(
        "digest-header-lies",
        "sends the wrong digest in `Docker-Content-Digest` for a tag",
        refuses("DigestMismatch", "pulls nothing that contradicts its own headers", is_choice=True),
        _says_digest(digest_of(b"something else")),
    ),
    Misbehaviour(
        "digest-header-missing",
        "sends no `Docker-Content-Digest`",
        completes("hashes the bytes itself", requests=5),
        _says_digest(None),
    ),
    Misbehaviour(
        "content-type-disagrees",
        "serves an OCI manifest with the type of a Docker manifest",
        refuses("InvalidManifest", "refuses a document of two types (CVE-2021-41190)"),
        _served_as(DOCKER_MANIFEST),
    ),
    Misbehaviour(
        "content-type-with-charset",
        "serves manifests with `; charset=utf-8` after the type",
        completes("ignores parameters", requests=5),
        _served_as(f"{OCI_MANIFEST}; charset=utf-8"),
    ),
    Misbehaviour(
        "content-type-of-text",
        "serves manifests as `text/plain`",
        completes("uses the type that the document states", requests=5),
        _served_as("text/plain; charset=utf-8"),
    ),
    Misbehaviour(
        "content-type-missing",
        "serves manifests without a `Content-Type`",
        completes("uses the type that the document states", requests=5),
        _served_as(None),
    ),
    Misbehaviour(
        "manifest-and-index",
        "serves a document that is both a manifest and an index",
        refuses("InvalidManifest", "refuses a document of two types (CVE-2021-41190)"),
        lambda scene: scene.rewrite(lambda document: {**document, "manifests": []}),
    ),
    Misbehaviour(
        "manifest-of-schema-1",
        "serves a schema 1 manifest",
        refuses("UnsupportedMediaType", "states how to solve it", is_choice=True),
        lambda scene: scene.registry.put_manifest(
            REPOSITORY, "1", _SCHEMA1, "application/vnd.docker.distribution.manifest.v1+json"
        ),
    ),
    Misbehaviour(
        "manifest-of-5-mib",
        "serves a manifest of 5 MiB",
        refuses("TooLarge", "accepts at most 4 MiB", is_choice=True),
        _annotated(b"x" * 5 * _MIB),
    ),
    Misbehaviour(
        "manifest-nested-deep",
        "serves a manifest with 100 000 nested lists",
        refuses("InvalidManifest", "parses it without a crash", is_choice=True),
        _raw_manifest(_nested),
    ),
    Misbehaviour(
        "manifest-with-nul",
        "puts a NUL into an annotation",
        refuses("InvalidManifest", "accepts no text with a NUL", is_choice=True),
        _annotated(b"\\u0000"),
    ),
    Misbehaviour(
        "manifest-of-invalid-utf-8",
        "puts bytes into an annotation that are not UTF-8",
        refuses("InvalidManifest", "accepts only JSON in UTF-8", is_choice=True),
        _annotated(b"\xff\xfe"),
    ),
    Misbehaviour(
        "config-of-9-mib",
        "has a config of 9 MiB",
        refuses("TooLarge", "accepts at most 8 MiB", is_choice=True),
        lambda scene: scene.bring(config={"history": [{"comment": "x" * 9 * _MIB}]}),
    ),
    Misbehaviour(
        "config-of-another-size",
        "has a config that is one byte shorter than the manifest states",
        refuses("SizeMismatch", "fails before it uses the config"),
        _sized_config,
    ),
)

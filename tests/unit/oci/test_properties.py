"""Any input is parsed or refused with a typed error, and parsed values survive a round trip."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from shared.errors import TowlineError
from shared.oci import media_type as types
from shared.oci.config import ImageConfig
from shared.oci.descriptor import Descriptor
from shared.oci.digest import Digest
from shared.oci.document import read_document
from shared.oci.index import Index
from shared.oci.manifest import Manifest, layers_with_diff_ids
from shared.oci.platform import Platform
from shared.oci.reference import Reference
from tests.support.untrusted_input import CONFIG, INDEX, JSON, MANIFEST, nearly, spoilt

CONTENT_TYPES = st.sampled_from(
    [None, "", "application/json", types.OCI_INDEX, types.DOCKER_MANIFEST, "\0; charset", "é"]
)
ASKED = [
    Platform.parse(text)
    for text in ("linux/amd64/v3", "linux/arm64/v9.2", "windows(10.0.26100)/amd64", "x/y/z")
]
# The length up to which a message with a list in it stays readable.
LONGEST_SENTENCE_CHARACTERS = 20_000


def texts(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict):
        for key, value in document.items():
            yield key
            yield from texts(value)
    elif isinstance(document, list):
        for value in document:
            yield from texts(value)


def check(raw: bytes, content_type: str | None = None) -> None:
    """Every operation on a document works, unless the document was refused with a typed error."""
    with suppress(TowlineError):
        check_manifests(read_document(raw, content_type))
    with suppress(TowlineError):
        check_config(ImageConfig.parse(raw))


def check_manifests(document: Index | Manifest) -> None:
    check_plain(document.document)
    assert read_document(json.dumps(document.document).encode(), document.media_type) == document
    if isinstance(document, Index):
        for platform in ASKED:
            for entry in document.candidates(platform):
                assert entry in document.manifests
        there = ", ".join(document.platforms())
        assert len(there) <= LONGEST_SENTENCE_CHARACTERS
        assert there.isprintable()
        return
    assert 0 <= document.total_size_bytes < 2**63
    assert {layer.digest for layer in document.layers} == {
        layer.digest for layer in document.distinct_layers
    }
    assert len(layers_with_diff_ids(document, None)) == len(document.layers)


def check_config(config: ImageConfig) -> None:
    check_plain(config.document)
    with suppress(TowlineError):
        platform = config.platform
        if platform is not None:
            assert str(platform).isprintable()
            assert len(str(platform)) <= LONGEST_SENTENCE_CHARACTERS
            assert platform.matches(platform) or platform.os == "windows" or platform.variant
    if config.created is not None:
        assert 1 <= config.created.year <= 9999
        assert config.created.tzinfo is not None


def check_plain(document: Any) -> None:
    """PostgreSQL can store every string of the document."""
    for text in texts(document):
        assert "\0" not in text
        text.encode()


@given(JSON, CONTENT_TYPES)
def test_any_json_is_parsed_or_refused(document: Any, content_type: str | None) -> None:
    check(json.dumps(document).encode(), content_type)


@given(st.sampled_from([INDEX, MANIFEST, CONFIG]).flatmap(nearly), CONTENT_TYPES)
def test_a_document_with_one_wrong_value_is_parsed_or_refused(
    document: Any, content_type: str | None
) -> None:
    check(json.dumps(document).encode(), content_type)


@given(st.binary(max_size=200) | st.sampled_from([INDEX, MANIFEST, CONFIG]).flatmap(spoilt))
@example(b"[" * 200_000)
@example(b'{"a":' * 200_000)
@example(b'{"schemaVersion":' + b"9" * 5000 + b"}")
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    check(raw)


def test_the_documents_used_here_are_valid_before_they_are_changed() -> None:
    index = read_document(json.dumps(INDEX).encode(), types.OCI_INDEX)
    manifest = read_document(json.dumps(MANIFEST).encode(), types.OCI_MANIFEST)
    config = ImageConfig.parse(json.dumps(CONFIG).encode())
    assert isinstance(index, Index)
    assert isinstance(manifest, Manifest)
    assert len(layers_with_diff_ids(manifest, config)) == 2
    assert config.created is not None


@given(JSON | nearly(MANIFEST["config"]) | nearly(INDEX["manifests"][1]))
def test_any_descriptor_is_parsed_or_refused(document: Any) -> None:
    with suppress(TowlineError):
        read = Descriptor.from_document(document)
        assert Digest.parse(str(read.digest)) == read.digest
        assert read.size >= 0
        assert isinstance(read.is_attestation, bool)
        assert read.data is None or len(read.data) == read.size


HEX = st.text("0123456789abcdef", min_size=64, max_size=64)
WORD = st.from_regex(r"[a-z0-9]{1,6}([._-][a-z0-9]{1,4}){0,2}", fullmatch=True)
DOMAINS = st.from_regex(r"([A-Za-z0-9]{1,5}\.){1,2}[a-z]{2,3}(:[0-9]{1,5})?", fullmatch=True)
REFERENCES = st.builds(
    "{}{}{}{}".format,
    DOMAINS.map("{}/".format) | st.sampled_from(["localhost/", "[::1]:5000/", "docker.io/"]),
    st.lists(WORD, min_size=1, max_size=4).map("/".join),
    st.from_regex(r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?", fullmatch=True),
    st.just("") | HEX.map("@sha256:{}".format),
)


@given(REFERENCES)
def test_a_reference_of_the_grammar_is_parsed_into_canonical_form(text: str) -> None:
    reference = Reference.parse(text)
    assert Reference.parse(str(reference)) == reference
    assert str(Reference.parse(str(reference))) == str(reference)


@given(
    st.text(max_size=60)
    | st.builds(
        lambda text, at, change: text[: at % 60] + change + text[at % 60 :],
        REFERENCES,
        st.integers(0, 59),
        st.text(max_size=3),
    )
)
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    with suppress(TowlineError):
        reference = Reference.parse(text)
        assert Reference.parse(str(reference)) == reference
        assert "/" not in (reference.tag or "")
        assert ".." not in reference.repository.split("/")
        assert len(reference.registry) <= 255
        if reference.digest:
            assert str(reference.pinned) == reference.digest


@given(
    st.text(max_size=80)
    | st.builds(
        "{}{}{}".format, st.sampled_from(["sha256:", "sha512:", "sha1:", "x+y:"]), HEX, st.text()
    )
)
def test_any_text_is_a_digest_or_refused(text: str) -> None:
    with suppress(TowlineError):
        digest = Digest.parse(text)
        assert str(digest) == text
        assert text.isascii()
        assert "/" not in text
        assert "." not in text


PART = st.from_regex(r"[A-Za-z0-9_.-]{1,8}", fullmatch=True)
PLATFORMS = st.builds(
    "{}/{}{}".format,
    st.sampled_from(["linux", "Windows(10.0.1+win32k)", "macos", "x(+b+a)"]) | PART,
    st.sampled_from(["arm", "AARCH64", "x86_64", "armhf", "386"]) | PART,
    st.just("") | PART.map("/{}".format) | st.integers().map("/v{}".format),
)


@given(PLATFORMS | st.text(max_size=30))
def test_any_text_is_a_platform_or_refused(text: str) -> None:
    with suppress(TowlineError):
        platform = Platform.parse(text)
        assert Platform.parse(str(platform)) == platform
        assert str(Platform.parse(str(platform))) == str(platform)
        assert platform.matches(platform)
        assert "/" not in platform.directory
        assert platform.directory not in {"", ".", ".."}


@given(PLATFORMS, PLATFORMS)
def test_any_two_platforms_can_be_compared(want: str, have: str) -> None:
    with suppress(TowlineError):
        wanted, image = Platform.parse(want), Platform.parse(have)
        if wanted.matches(image):
            assert (wanted.os, wanted.architecture) == (image.os, image.architecture)

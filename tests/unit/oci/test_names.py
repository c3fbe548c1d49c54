"""References, digests and platforms: how things are named."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import (
    InvalidDigest,
    InvalidPlatform,
    InvalidReference,
    TowlineError,
    UnsupportedAlgorithm,
)
from shared.oci.digest import Digest
from shared.oci.platform import Platform
from shared.oci.reference import Reference

HEX = "0123456789abcdef"


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_a_digest_is_algorithm_and_exactly_its_hexadecimal_digits(algorithm: str) -> None:
    digest = Digest.of(b"bytes", algorithm)
    assert str(digest) == f"{algorithm}:{hashlib.new(algorithm, b'bytes').hexdigest()}"
    assert Digest.parse(str(digest)) == digest
    for wrong in (str(digest)[:-1], f"{digest}0", str(digest).upper(), f"{digest}\n"):
        with pytest.raises((InvalidDigest, UnsupportedAlgorithm)):
            Digest.parse(wrong)


@pytest.mark.parametrize(
    "text", ["", "sha256", "sha256:", ":abc", "sha256:../../etc", f"sha256:{'g' * 64}", "a b:c"]
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidDigest):
        Digest.parse(text)


@pytest.mark.parametrize("text", ["md5:abcd", "blake3:0123", "sha1:00", "xxhash:00"])
def test_an_algorithm_that_cannot_be_verified_is_named(text: str) -> None:
    with pytest.raises(UnsupportedAlgorithm, match=text.partition(":")[0]):
        Digest.parse(text)


@given(st.text(HEX, min_size=64, max_size=64))
def test_every_sha256_survives_a_round_trip(encoded: str) -> None:
    assert str(Digest.parse(f"sha256:{encoded}")) == f"sha256:{encoded}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Library/Alpine", "lower-case"),
        ("0" * 64, "image id"),
        ("a:" + "t" * 129, "no tag"),
        ("a:tág", "no tag"),
        ("quay.io/" + "a" * 256, "255"),
        ("a@sha256:123", "no digest"),
        ("", "no repository"),
        (" alpine", "no repository"),
        ("-registry.example/a", "no registry"),
    ],
)
def test_a_wrong_reference_says_what_is_wrong(text: str, sentence: str) -> None:
    with pytest.raises(InvalidReference, match=sentence):
        Reference.parse(text)


def test_the_library_is_docker_hubs_alone() -> None:
    assert Reference.parse("quay.io/app").repository == "app"
    assert Reference.parse("docker.io/app").repository == "library/app"


@given(st.text())
def test_any_text_is_a_reference_or_a_typed_error(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidReference:
        return
    assert Reference.parse(str(reference)) == reference


@given(st.text(max_size=40), st.sampled_from([Digest, Platform]))
def test_any_text_is_read_or_refused(text: str, kind: type[Digest] | type[Platform]) -> None:
    try:
        read = kind.parse(text)
    except TowlineError:
        return
    assert kind.parse(str(read)) == read


@pytest.mark.parametrize(
    ("text", "normal", "directory"),
    [
        ("linux/x86_64", "linux/amd64", "linux-amd64"),
        ("Linux/AARCH64", "linux/arm64", "linux-arm64"),
        ("linux/arm64/v8", "linux/arm64", "linux-arm64"),
        ("linux/arm", "linux/arm/v7", "linux-arm-v7"),
        ("linux/armel", "linux/arm/v6", "linux-arm-v6"),
        ("macos/arm64", "darwin/arm64", "darwin-arm64"),
        ("linux/amd64/v1", "linux/amd64", "linux-amd64"),
        ("linux/amd64/v3", "linux/amd64/v3", "linux-amd64-v3"),
    ],
)
def test_platforms_are_normalised(text: str, normal: str, directory: str) -> None:
    platform = Platform.parse(text)
    assert (str(platform), platform.directory) == (normal, directory)


def test_one_part_names_the_os_or_the_architecture() -> None:
    assert Platform.parse("windows").os == "windows"
    assert Platform.parse("s390x") == Platform("linux", "s390x")


@pytest.mark.parametrize("text", ["", "/", "a/b/c/d", "linux/", "linux amd64", "nonsense"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(InvalidPlatform):
        Platform.parse(text)


def test_the_nearest_variant_is_the_closest() -> None:
    wanted = Platform.parse("linux/amd64/v3")
    ranks = [wanted.closeness(Platform.parse(f"linux/amd64/v{n}")) for n in (3, 2, 1, 4)]
    assert ranks == [0, 1, 2, None]


def test_windows_images_need_the_hosts_build() -> None:
    host = Platform("windows", "amd64", os_version="10.0.17763.1")
    assert host.matches(Platform("windows", "amd64", os_version="10.0.17763.999"))
    assert not host.matches(Platform("windows", "amd64", os_version="10.0.20348.1"))

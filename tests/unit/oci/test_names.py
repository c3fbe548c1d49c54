"""References and digests."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import InvalidDigest, InvalidReference, UnsupportedAlgorithm
from shared.oci.digest import Digest
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
def test_a_malformed_digest_is_refused(text: str) -> None:
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
        ("a:" + "t" * 129, "not a tag"),
        ("a:tág", "not a tag"),
        ("quay.io/" + "a" * 256, "255"),
        ("a@sha256:123", "not a digest"),
        ("", "not a repository"),
        (" alpine", "not a repository"),
        ("-registry.example/a", "not a registry"),
        ("https://quay.io/a", "not a registry"),
        (f"{'a' * 260}.example/a", "not a registry"),
        ("quay.io/a/", "not a repository"),
    ],
)
def test_the_error_of_a_wrong_reference_names_the_wrong_part(text: str, sentence: str) -> None:
    with pytest.raises(InvalidReference, match=sentence):
        Reference.parse(text)


def test_only_docker_hub_has_the_library_prefix() -> None:
    assert Reference.parse("quay.io/app").repository == "app"
    assert Reference.parse("docker.io/app").repository == "library/app"


def test_a_repository_may_be_255_characters_long_whatever_its_registry_and_tag() -> None:
    longest = "a/" * 127 + "a"
    assert Reference.parse(f"quay.io/{longest}:{'t' * 128}").repository == longest
    with pytest.raises(InvalidReference, match="255"):
        Reference.parse(f"quay.io/{longest}a")


def test_sixty_four_hexadecimal_digits_are_a_name_after_a_registry() -> None:
    assert Reference.parse(f"docker.io/{'0' * 64}").repository == f"library/{'0' * 64}"

"""Image references, as Docker users write them.

    reference   ::= name [ ":" tag ] [ "@" digest ]
    name        ::= [ domain "/" ] path
    domain      ::= host [ ":" port ]
    host        ::= domain-name | IPv4 | "[" IPv6 "]"
    domain-name ::= component { "." component }, of letters, digits and inner "-"
    path        ::= path-part { "/" path-part }
    path-part   ::= alphanumeric { ( "." | "_" | "__" | "-" { "-" } ) alphanumeric }
    tag         ::= word-character, then at most 127 of word-character | "." | "-"
    digest      ::= see digest.py

The first part is a domain if it contains "." or ":", is "localhost", or has an upper-case letter.
Without a domain the registry is Docker Hub. There `library/` is put before a path of one part.

Source: distribution/reference, `ParseNormalizedNamed`.
"""

import re
from dataclasses import dataclass

from shared.errors import InvalidDigest, InvalidReference, UnsupportedAlgorithm
from shared.oci.digest import Digest

DOCKER_HUB = "docker.io"
_LEGACY_DOCKER_HUB = "index.docker.io"
_OFFICIAL = "library/"
_DEFAULT_TAG = "latest"
_NAME_CHARACTERS = 255
# A registry's name becomes the name of a directory; 253 characters are the most in DNS.
_REGISTRY_CHARACTERS = 255
_SHOWN_CHARACTERS = 300

_DOMAIN_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN_NAME = rf"{_DOMAIN_COMPONENT}(?:\.{_DOMAIN_COMPONENT})*"
_IPV6 = r"\[(?:[a-fA-F0-9:]+)\]"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_NAME}|{_IPV6})(?::[0-9]+)?", re.ASCII)
_PATH_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PATH_PART}(?:/{_PATH_PART})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_HEX64 = re.compile(r"[a-f0-9]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """A normalised reference. `tag` is None only if there is a digest and no tag."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.name}{tag}{digest}"

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def pinned(self) -> Digest | None:
        """The parsed digest, None without one. A reference with a digest never resolves its tag."""
        return Digest.parse(self.digest) if self.digest else None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Return the canonical reference. Raises InvalidReference, which names the wrong part."""
        if _HEX64.fullmatch(text):
            raise _invalid(text, "64 hexadecimal digits are an image id, not a name")
        rest, digest = _split_digest(text)
        registry, path = _split_domain(rest)
        repository, tag = _split_tag(text, path)
        if registry == DOCKER_HUB and "/" not in repository:
            repository = _OFFICIAL + repository
        if len(repository) > _NAME_CHARACTERS:
            raise _invalid(text, f"the name is longer than {_NAME_CHARACTERS} characters")
        if tag is None and digest is None:
            tag = _DEFAULT_TAG
        return cls(registry, repository, tag, digest)


def _split_digest(text: str) -> tuple[str, str | None]:
    rest, separator, digest = text.partition("@")
    if not separator:
        return rest, None
    try:
        return rest, str(Digest.parse(digest))
    except (InvalidDigest, UnsupportedAlgorithm) as error:
        raise _invalid(text, error.message.rstrip(".")) from error


def _split_domain(text: str) -> tuple[str, str]:
    first, separator, path = text.partition("/")
    is_domain = separator and (
        "." in first or ":" in first or first == "localhost" or first != first.lower()
    )
    if not is_domain:
        return DOCKER_HUB, text
    if not _DOMAIN.fullmatch(first) or len(first) > _REGISTRY_CHARACTERS:
        raise _invalid(text, f"{first[:_SHOWN_CHARACTERS]!r} is not a registry")
    return (DOCKER_HUB if first == _LEGACY_DOCKER_HUB else first), path


def _split_tag(text: str, path: str) -> tuple[str, str | None]:
    repository, separator, tag = path.rpartition(":")
    if not separator:
        repository, tag = path, ""
    if not _PATH.fullmatch(repository):
        if _PATH.fullmatch(repository.lower()):
            raise _invalid(text, "the repository must be lower-case")
        raise _invalid(text, f"{repository[:_SHOWN_CHARACTERS]!r} is not a repository")
    if separator and not _TAG.fullmatch(tag):
        raise _invalid(text, f"{tag[:_SHOWN_CHARACTERS]!r} is not a tag")
    return repository, tag or None


def _invalid(text: str, reason: str) -> InvalidReference:
    shown = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return InvalidReference(f"{shown!r} is not an image reference: {reason}.")

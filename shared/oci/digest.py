"""Digests: `algorithm:encoded`, the name of a blob.

    digest    ::= algorithm ":" encoded
    algorithm ::= "sha256" | "sha384" | "sha512"
    encoded   ::= lower-case hexadecimal, exactly as long as the algorithm's output

The grammar is a security boundary: a digest becomes part of paths and URLs.
Source: image-spec v1.1, "Descriptor", section "Digests".
"""

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import InvalidDigest, UnsupportedAlgorithm

if TYPE_CHECKING:
    from hashlib import _Hash

_HEX_CHARACTERS = {"sha256": 64, "sha384": 96, "sha512": 128}
_SHAPE = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+", re.ASCII)
_HEX = re.compile(r"[0-9a-f]+", re.ASCII)
_SHOWN_CHARACTERS = 140


@dataclass(frozen=True, slots=True, order=True)
class Digest:
    """A well-formed digest of a supported algorithm. Says nothing about any bytes by itself."""

    algorithm: str
    encoded: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"

    @classmethod
    def parse(cls, text: str) -> "Digest":
        """Return the digest that `text` spells.

        Raises InvalidDigest, and UnsupportedAlgorithm if towline cannot verify the algorithm.
        """
        if not isinstance(text, str) or not _SHAPE.fullmatch(text):
            shown = repr(text)[:_SHOWN_CHARACTERS]
            raise InvalidDigest(
                f"{shown} is not a digest: write sha256: and 64 hexadecimal digits."
            )
        algorithm, _, encoded = text.partition(":")
        characters = _HEX_CHARACTERS.get(algorithm)
        if characters is None:
            raise UnsupportedAlgorithm(
                f"The digest algorithm {algorithm[:_SHOWN_CHARACTERS]} is not supported: "
                f"use {', '.join(_HEX_CHARACTERS)}."
            )
        if len(encoded) != characters or not _HEX.fullmatch(encoded):
            raise InvalidDigest(
                f"{text[:_SHOWN_CHARACTERS]!r} is not a digest: {algorithm} takes {characters} "
                "lower-case hexadecimal digits."
            )
        return cls(algorithm, encoded)

    @classmethod
    def of(cls, data: bytes, algorithm: str = "sha256") -> "Digest":
        """The digest of these bytes."""
        return cls(algorithm, hashlib.new(algorithm, data).hexdigest())

    def hasher(self) -> "_Hash":
        """A new hash object of this algorithm."""
        return hashlib.new(self.algorithm)

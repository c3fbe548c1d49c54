"""Platforms: `os/architecture[/variant]` in normal form, and which image runs where.

    linux/amd64                  the same as linux/x86_64; amd64 without variant is v1
    linux/arm64                  the same as linux/arm64/v8 and linux/aarch64
    linux/arm/v7                 the same as linux/arm
    windows(10.0.20348)/amd64    on hosts of that build; linux(+erofs)/amd64 with that feature

Variants are compared in variant.py, builds of Windows in windows.py. Source: containerd/platforms,
`Normalize`, `Parse` and `Only`. Unlike `Only`, no other architecture is accepted as a fallback.
"""

import platform as machine
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from shared.errors import InvalidManifest, InvalidPlatform, TooLarge
from shared.oci import variant as variants
from shared.oci import windows
from shared.oci.platform_names import ARCHITECTURES, MACHINES, OPERATING_SYSTEMS, normal_names

_PART = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)
_OS = re.compile(r"([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.-]*)((?:\+[A-Za-z0-9_.-]+)*)\))?", re.ASCII)
# A platform becomes the name of a directory and part of a key in the catalog.
_MAX_CHARACTERS = 128
_MAX_FEATURES = 32

# A feature of every Windows except Nano Server: it is ignored when an image is chosen.
_WINDOWS_EVERYWHERE = "win32k"


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform in containerd's normal form. `os_version` is compared only for Windows."""

    os: str
    architecture: str
    variant: str | None = None
    os_version: str | None = None
    os_features: tuple[str, ...] = ()

    def __str__(self) -> str:
        options = "".join([self.os_version or "", *(f"+{name}" for name in self.os_features)])
        os = f"{self.os}({options})" if options else self.os
        return "/".join(filter(None, (os, self.architecture, self.variant)))

    @property
    def directory(self) -> str:
        """The name of this platform's directory in a layout."""
        return str(self).replace("/", "-")

    @classmethod
    def parse(cls, text: str) -> "Platform":
        """From `os/arch[/variant]`, or from an os or an architecture alone, completed with this
        machine's. Raises InvalidPlatform.
        """
        first, *rest = text.split("/")
        os = _OS.fullmatch(first)
        well_formed = os is not None and all(_PART.fullmatch(part) for part in rest)
        if os is None or not well_formed or len(rest) > 2 or len(text) > _MAX_CHARACTERS:
            raise InvalidPlatform(
                f"{text[:_MAX_CHARACTERS]!r} is not a platform: write os/architecture, such as "
                "linux/arm64."
            )
        plain = _named(os[1], *rest) if rest else _of_one_part(os[1], first)
        return replace(
            plain,
            os_version=os[2] or None,
            os_features=_features(os[3].split("+")) if os[3] else (),
        )

    @classmethod
    def of_machine(cls) -> "Platform":
        """Linux on this machine's architecture."""
        name = machine.machine()
        return _named("linux", *MACHINES.get(name, name).split("/"))

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Platform":
        """From a descriptor's `platform` or a config. Raises InvalidManifest, TooLarge."""
        os, architecture = document.get("os", ""), document.get("architecture", "")
        variant, version = document.get("variant") or None, document.get("os.version") or None
        features = document.get("os.features") or []
        texts = [os, architecture, variant or "", version or ""]
        if not isinstance(features, list) or not all(map(_is_word, [*texts, *features])):
            raise InvalidManifest("A platform in the image's documents is malformed.")
        if len(features) > _MAX_FEATURES:
            raise TooLarge(
                f"A platform in the image's documents has {len(features)} features; at most "
                f"{_MAX_FEATURES} are accepted."
            )
        normal = _named(os, architecture, variant)
        return replace(normal, os_version=version, os_features=_features(features))

    @property
    def is_unknown(self) -> bool:
        """Whether the os or the architecture is `unknown`, as in entries for attestations: no
        client chooses those for its platform.
        """
        return "unknown" in {self.os, self.architecture}

    def matches(self, other: "Platform") -> bool:
        """Whether an image for the platform `other` runs on this platform."""
        return self.closeness(other) is not None

    def closeness(self, other: "Platform") -> tuple[int, ...] | None:
        """A sort key for images that run on this platform, best first; None for one that does not.

        Compares the variant, the build of Windows and the features. Keys may be equal; then the
        first image in the index is chosen.
        """
        if (self.os, self.architecture) != (other.os, other.architecture):
            return None
        if not variants.runs(self.architecture, self.variant, other.variant):
            return None
        features = set(other.os_features)
        distance = 0
        if self.os == "windows":
            if not windows.runs(self.os_version, other.os_version):
                return None
            features.discard(_WINDOWS_EVERYWHERE)
            distance = windows.distance(self.os_version, other.os_version)
        if not features <= set(self.os_features):
            return None
        return (
            *variants.newest_first(self.architecture, other.variant),
            distance,
            -len(features),
        )


def _is_word(text: object) -> bool:
    """Whether the text may appear in an error. Spaces are allowed: Homebrew's indexes have versions
    such as `macOS 13.5`.
    """
    return isinstance(text, str) and len(text) <= _MAX_CHARACTERS and text.isprintable()


def _features(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(filter(None, names))))


def _of_one_part(os: str, text: str) -> Platform:
    here = Platform.of_machine()
    alone = _named(os, here.architecture, here.variant)
    if alone.os in OPERATING_SYSTEMS:
        return alone
    alone = _named(here.os, text)
    if alone.architecture in ARCHITECTURES:
        return alone
    raise InvalidPlatform(
        f"{text!r} is neither an operating system nor an architecture: "
        "write os/architecture, such as linux/arm64."
    )


def _named(os: str, architecture: str, variant: str | None = None) -> Platform:
    return Platform(*normal_names(os, architecture, variant))

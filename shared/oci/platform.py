"""Platforms: `os/architecture[/variant]`, normalised, and which image runs where.

    linux/amd64     the same as linux/x86_64; amd64 without variant is v1
    linux/arm64     the same as linux/arm64/v8 and linux/aarch64
    linux/arm/v7    the same as linux/arm

Source: containerd/platforms, `Normalize`, `Parse` and `Only`, but within one architecture: another
architecture is never a fallback.
"""

import platform as machine
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.errors import InvalidManifest, InvalidPlatform

_PART = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)

_OS_ALIASES = {"macos": "darwin"}
_ARCHITECTURE_ALIASES = {
    "i386": ("386", None),
    "x86_64": ("amd64", None),
    "x86-64": ("amd64", None),
    "aarch64": ("arm64", None),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_OPERATING_SYSTEMS = frozenset(
    [
        "aix",
        "android",
        "darwin",
        "dragonfly",
        "freebsd",
        "hurd",
        "illumos",
        "ios",
        "js",
        "linux",
        "nacl",
        "netbsd",
        "openbsd",
        "plan9",
        "solaris",
        "wasip1",
        "windows",
        "zos",
    ]
)
_ARCHITECTURES = frozenset(
    [
        "386",
        "amd64",
        "amd64p32",
        "arm",
        "armbe",
        "arm64",
        "arm64be",
        "loong64",
        "mips",
        "mipsle",
        "mips64",
        "mips64le",
        "mips64p32",
        "mips64p32le",
        "ppc",
        "ppc64",
        "ppc64le",
        "riscv",
        "riscv64",
        "s390",
        "s390x",
        "sparc",
        "sparc64",
        "wasm",
    ]
)

# What a variant that is not named means.
_UNNAMED = {"arm": "v7", "arm64": "v8", "amd64": "v1"}
_VERSION = re.compile(r"v(\d+)(?:\.(\d+))?", re.ASCII)

# ARMv9.x runs what ARMv8.(x+5) runs, up to 8.9 (Arm architecture reference manual, A-profile).
_V9_BEHIND_V8 = 5
_LAST_V8 = 9


@dataclass(frozen=True, slots=True)
class Platform:
    """One platform in containerd's normal form. `os_version`, `os_features`: Windows only."""

    os: str
    architecture: str
    variant: str | None = None
    os_version: str | None = None
    os_features: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    @property
    def directory(self) -> str:
        """The name of this platform's directory in a layout."""
        return str(self).replace("/", "-")

    @classmethod
    def parse(cls, text: str) -> "Platform":
        """From `os/arch[/variant]`, or an os or an architecture alone. Raises InvalidPlatform."""
        parts = text.split("/")
        if len(parts) > 3 or not all(_PART.fullmatch(part) for part in parts):
            raise InvalidPlatform(
                f"{text[:200]!r} is no platform: write os/architecture, such as linux/arm64."
            )
        if len(parts) == 1:
            return _of_one_part(text)
        return _normal(*parts)

    @classmethod
    def of_machine(cls) -> "Platform":
        """Linux on this machine's architecture."""
        return _normal("linux", machine.machine())

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Platform":
        """From a descriptor's `platform` or a config. Raises InvalidManifest."""
        os, architecture = document.get("os", ""), document.get("architecture", "")
        variant, version = document.get("variant") or None, document.get("os.version") or None
        features = document.get("os.features") or []
        texts = [os, architecture, variant or "", version or ""]
        if not isinstance(features, list) or not all(
            isinstance(text, str) for text in [*texts, *features]
        ):
            raise InvalidManifest("A platform in the image's documents is malformed.")
        normal = _normal(os, architecture, variant)
        return cls(normal.os, normal.architecture, normal.variant, version, tuple(features))

    @property
    def is_unknown(self) -> bool:
        """`unknown/unknown`: how attestations hide from platform choice."""
        return "unknown" in {self.os, self.architecture}

    def matches(self, other: "Platform") -> bool:
        """Whether an image for `other` runs where `self` is asked for."""
        return self.closeness(other) is not None

    def closeness(self, other: "Platform") -> int | None:
        """0 for the very platform, more for each step down in variants; None: does not run."""
        if (self.os, self.architecture) != (other.os, other.architecture):
            return None
        if self.os == "windows" and not self._windows_runs(other):
            return None
        wanted = self._runnable_variants()
        have = other._variant()
        return wanted.index(have) if have in wanted else None

    def _windows_runs(self, other: "Platform") -> bool:
        """Windows images need the host's build, and every feature that they name."""
        if self.os_version and other.os_version:
            wanted, have = self.os_version.split("."), other.os_version.split(".")
            if wanted[:3] != have[:3]:
                return False
        return not self.os_features or set(other.os_features) <= set(self.os_features)

    def _variant(self) -> str:
        return self.variant or _UNNAMED.get(self.architecture, "")

    def _runnable_variants(self) -> list[str]:
        """The variants that run here, the best first."""
        variant = self._variant()
        match = _VERSION.fullmatch(variant)
        if match is None or self.architecture not in _UNNAMED:
            return [variant]
        major, minor = int(match[1]), int(match[2] or 0)
        if self.architecture == "arm64":
            return _arm64_variants(variant, major, minor)
        lowest = 5 if self.architecture == "arm" else 1
        return [variant, *(f"v{lower}" for lower in range(major - 1, lowest - 1, -1))]


def _arm64_variants(variant: str, major: int, minor: int) -> list[str]:
    below = [_dotted(major, lower) for lower in range(minor - 1, -1, -1)]
    if major == 9:
        newest_v8 = min(minor + _V9_BEHIND_V8, _LAST_V8)
        below += [_dotted(8, lower) for lower in range(newest_v8, -1, -1)]
    return [variant, *below]


def _dotted(major: int, minor: int) -> str:
    return f"v{major}.{minor}" if minor else f"v{major}"


def _of_one_part(text: str) -> Platform:
    here = Platform.of_machine()
    alone = _normal(text, here.architecture)
    if alone.os in _OPERATING_SYSTEMS:
        return alone
    alone = _normal(here.os, text)
    if alone.architecture in _ARCHITECTURES:
        return alone
    raise InvalidPlatform(
        f"{text[:200]!r} is neither an operating system nor an architecture: "
        "write os/architecture, such as linux/arm64."
    )


def _normal(os: str, architecture: str, variant: str | None = None) -> Platform:
    os = _OS_ALIASES.get(os.lower(), os.lower())
    architecture = architecture.lower()
    variant = variant.lower() if variant else None
    if architecture in _ARCHITECTURE_ALIASES:
        architecture, implied = _ARCHITECTURE_ALIASES[architecture]
        variant = implied or (None if architecture == "386" else variant)
    if architecture == "arm":
        variant = {None: "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
    elif (architecture, variant) in {("arm64", "8"), ("arm64", "v8"), ("arm64", "v8.0")}:
        variant = None
    elif (architecture, variant) in {("arm64", "9"), ("arm64", "v9.0")}:
        variant = "v9"
    elif (architecture, variant) == ("amd64", "v1"):
        variant = None
    return Platform(os, architecture, variant)

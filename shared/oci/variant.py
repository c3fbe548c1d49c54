"""CPU variants: which images a processor can run, by comparing the numbers in the variants.

    variant ::= prefix numbers suffix       v8.2, power10, rva23u64
    numbers ::= digits { "." digits }       v9 is v9.0

Architecture, and the variants of images that run on a processor:

    amd64, arm    the same or lower, with equal prefix and suffix; for arm not below v5
    arm64         on v8.x: v8.0 to v8.x; on v9.x: v9.0 to v9.x, and v8.0 to v8.(x+5), at most v8.9
    any other     the same or lower, with equal prefix and suffix; an image without a variant

A variant comes from an untrusted document: no time or memory here depends on the size of its
numbers.
Source: containerd/platforms, `Only`; Arm architecture reference manual, A-profile.
"""

import re
from dataclasses import dataclass

# The variants that are meant if none is stated.
_DEFAULTS = {"arm": "v7", "arm64": "v8", "amd64": "v1"}
_LOWEST = {"arm": (5,), "amd64": (1,)}
_VARIANT = re.compile(r"([^0-9]*)([0-9]{1,18}(?:\.[0-9]{1,18})*)((?:[^0-9].*)?)", re.ASCII)

# v9.x includes the features of v8.(x+5).
_V9_BEHIND_V8 = 5
_LAST_V8 = 9


@dataclass(frozen=True, slots=True)
class _Version:
    """A parsed variant. `numbers` has no trailing zeros: (9,) for v9.0."""

    prefix: str
    numbers: tuple[int, ...]
    suffix: str

    @property
    def minor(self) -> int:
        return self.numbers[1] if len(self.numbers) > 1 else 0


def runs(architecture: str, wanted: str | None, have: str | None) -> bool:
    """Whether an image for the variant `have` runs on a processor of the variant `wanted`."""
    if have is None and architecture not in _DEFAULTS:
        return True
    wanted, have = _with_default(architecture, wanted), _with_default(architecture, have)
    if wanted == have:
        return True
    host, image = _version(wanted), _version(have)
    if host is None or image is None:
        return False
    if (host.prefix, host.suffix) != (image.prefix, image.suffix):
        return False
    if architecture == "arm64":
        return _arm64_runs(host, image)
    return _LOWEST.get(architecture, ()) <= image.numbers <= host.numbers


def newest_first(architecture: str, variant: str | None) -> tuple[int, ...]:
    """A sort key for variants that run on the same processor; no variant comes last."""
    version = _version(_with_default(architecture, variant))
    numbers = version.numbers if version else ()
    # The final 1 sorts v9 after v9.1.
    return (*(-number for number in numbers), 1)


def _with_default(architecture: str, variant: str | None) -> str:
    return variant or _DEFAULTS.get(architecture, "")


def _version(variant: str) -> _Version | None:
    match = _VARIANT.fullmatch(variant)
    if match is None:
        return None
    numbers = [int(number) for number in match[2].split(".")]
    while len(numbers) > 1 and numbers[-1] == 0:
        numbers.pop()
    return _Version(match[1], tuple(numbers), match[3])


def _arm64_runs(host: _Version, image: _Version) -> bool:
    if max(len(host.numbers), len(image.numbers)) > 2:
        return False
    if host.numbers[0] == image.numbers[0]:
        return image.minor <= host.minor
    newest_v8 = min(host.minor + _V9_BEHIND_V8, _LAST_V8)
    return (host.numbers[0], image.numbers[0]) == (9, 8) and image.minor <= newest_v8

"""Builds of Windows: an image runs on its own build, or on one that promises to run it.

    version ::= major "." minor "." build [ "." revision ]     10.0.20348.2113

Source: containerd/platforms, `windowsMatchComparer`; Microsoft, "Windows container version
compatibility".
"""

import re

# Major, minor and build; the revision after them does not matter.
_VERSION = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})(?:\..*)?", re.ASCII)
# Windows Server 2022 and 2025: from the first on, a host also runs what is not older than the
# long-term release before its own build.
_LONG_TERM = (20348, 26100)
_FARTHEST = 10**9


def runs(wanted: str | None, have: str | None) -> bool:
    """Whether an image for the version `have` runs on `wanted`. One not told excludes none."""
    host = _VERSION.fullmatch(wanted or "")
    if host is None or not have:
        return True
    image = _VERSION.fullmatch(have)
    if image is None or host.groups()[:2] != image.groups()[:2]:
        return False
    host_build, image_build = int(host[3]), int(image[3])
    if host_build < _LONG_TERM[0]:
        return image_build == host_build
    before = [build for build in _LONG_TERM if build < host_build]
    oldest = before[-1] if before else _LONG_TERM[0]
    return oldest <= image_build <= host_build


def distance(wanted: str | None, have: str | None) -> int:
    """How many builds older an image is that runs here; 0 for all where no version is wanted."""
    host, image = _VERSION.fullmatch(wanted or ""), _VERSION.fullmatch(have or "")
    if host is None:
        return 0
    return int(host[3]) - int(image[3]) if image else _FARTHEST

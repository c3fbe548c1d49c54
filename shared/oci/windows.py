"""Builds of Windows: an image runs on its own build, and on newer ones that Microsoft supports.

    version ::= major "." minor "." build [ "." revision ]     10.0.20348.2113

Source: containerd/platforms, `windowsMatchComparer`; Microsoft, "Windows container version
compatibility".
"""

import re

# Major, minor and build. The revision after them is ignored.
_VERSION = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})(?:\..*)?", re.ASCII)
# Windows Server 2022 and 2025. From build 20348 on, a host also runs older images, down to the
# last of these releases before its own build.
_LONG_TERM = (20348, 26100)
_FARTHEST = 10**9


def runs(host_version: str | None, image_version: str | None) -> bool:
    """Whether an image built for `image_version` runs on a host of `host_version`. True if either
    is not stated.
    """
    host = _VERSION.fullmatch(host_version or "")
    if host is None or not image_version:
        return True
    image = _VERSION.fullmatch(image_version)
    if image is None or host.groups()[:2] != image.groups()[:2]:
        return False
    host_build, image_build = int(host[3]), int(image[3])
    if host_build < _LONG_TERM[0]:
        return image_build == host_build
    before = [build for build in _LONG_TERM if build < host_build]
    oldest = before[-1] if before else _LONG_TERM[0]
    return oldest <= image_build <= host_build


def distance(host_version: str | None, image_version: str | None) -> int:
    """A sort key for images that run on this host: how many builds older than the host they are.

    0 for all of them if the host's version is not stated; an image without a version comes last.
    """
    host = _VERSION.fullmatch(host_version or "")
    image = _VERSION.fullmatch(image_version or "")
    if host is None:
        return 0
    return int(host[3]) - int(image[3]) if image else _FARTHEST

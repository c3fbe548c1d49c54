"""Which of the URLs that a registry names are followed: in a challenge, a manifest, a redirect."""

from urllib.parse import urljoin, urlsplit

from shared.errors import RegistryNotAllowed, RegistryUnavailable
from shared.registry.hosts import Host
from shared.registry.transport.urls import split_http_url

_MAX_LOCATION_CHARACTERS = 16 * 1024


def check_named_url(url: str, host: Host) -> None:
    """Raises RegistryNotAllowed for a URL with user information, and for one with http that a
    registry with https has named in a manifest or a challenge.
    """
    parts = split_http_url(url)
    if parts is None:
        raise RegistryNotAllowed(
            f"{host.registry} names an unusable URL in a manifest or challenge: only http and "
            "https URLs without user information are followed."
        )
    if parts.scheme == "http" and host.base.startswith("https:"):
        raise RegistryNotAllowed(
            f"{host.registry} names a URL at {parts.hostname} without https: it is not followed, "
            "because the transfer would be unencrypted."
        )


def redirect_target(url: str, location: str) -> str:
    """The URL that a redirect from `url` leads to. Raises RegistryUnavailable if it is unusable or
    leaves https.
    """
    source = urlsplit(url).hostname
    try:
        target = urljoin(url, location) if len(location) <= _MAX_LOCATION_CHARACTERS else ""
    except ValueError:
        target = ""
    parts = split_http_url(target)
    if parts is None:
        raise RegistryUnavailable(
            f"{source} redirects to an unusable URL: only http and https URLs without user "
            "information are followed."
        )
    if url.startswith("https:") and parts.scheme == "http":
        raise RegistryUnavailable(
            f"{source} redirects from https to http: it is not followed, because the transfer "
            "would be unencrypted."
        )
    return target

"""URLs: which are acceptable, which have the same origin, and how they appear in messages."""

from urllib.parse import SplitResult, urlsplit


def same_origin(one: str, other: str) -> bool:
    """Whether two URLs have the same scheme, host and port."""
    a, b = urlsplit(one), urlsplit(other)
    return (a.scheme, a.hostname, _port(a)) == (b.scheme, b.hostname, _port(b))


def split_http_url(url: str) -> SplitResult | None:
    """The parts of an http or https URL. None for any other URL, and for one with user
    information.
    """
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return None
    if not usable or parts.scheme not in {"http", "https"} or "@" in parts.netloc:
        return None
    return parts


def without_query(url: str) -> str:
    """The URL for a message: without its query, which may hold a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{parts.path}"


def _port(url: SplitResult) -> int:
    return url.port or {"http": 80, "https": 443}.get(url.scheme, 0)

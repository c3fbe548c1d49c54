"""Checks the URLs of PostgreSQL and Redis as text and refuses unusable ones with one sentence.

Each URL is passed to several libraries. They parse it differently, and their errors repeat parts
of the password. The errors raised here name the variable and no part of its value.
"""

import re
from urllib.parse import parse_qsl, urlsplit

from shared.errors import InvalidArgument

_DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
# As SQLAlchemy parses them: the first @ ends the password.
_CREDENTIALS = re.compile(r"[^:/@]*(?::[^@]*)?@")

_NOT_YET = ("redis+socket", "sentinel")
# The parameters that a rediss:// URL may have; the clients accept no others.
_TLS_PARAMETERS = {
    f"ssl_{name}" for name in ("cert_reqs", "ca_certs", "certfile", "keyfile", "check_hostname")
}
_CERT_REQS = {"required", "optional", "none", "CERT_REQUIRED", "CERT_OPTIONAL", "CERT_NONE"}

_ENCODE = "in a user or password write %40 for @, %2F for /, %23 for #, %3F for ? and %3A for :"


def database_url(url: str, variable: str = "TOWLINE_DATABASE_URL") -> str:
    """The URL with the scheme that selects psycopg 3. Raises InvalidArgument."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _DATABASE_SCHEMES:
        raise _refused(variable, "it must begin with postgresql://")
    location, _, _ = rest[_credentials_length(rest) :].partition("?")
    if "@" in location:
        raise _refused(variable, f"it has more than one @: {_ENCODE}")
    host, _, _ = location.partition("/")
    if "," in host:
        raise _refused(variable, "write several hosts as …/name?host=first:5432&host=second:5432")
    if "%" in host:
        raise _refused(variable, "write a socket's directory as …/name?host=/directory")
    _, _, port = host.rpartition("]")[2].partition(":")
    if port and not port.isdecimal():
        raise _refused(variable, f"its port is not a number: {_ENCODE}")
    return f"postgresql+psycopg://{rest}"


def _credentials_length(rest: str) -> int:
    """The length of `user:password@` at the beginning of `rest`, 0 without it."""
    found = _CREDENTIALS.match(rest)
    return found.end() if found else 0


def check_broker_url(url: str, variable: str = "TOWLINE_BROKER_URL") -> None:
    """Raises InvalidArgument for a broker that Celery or the rate limiter could not use."""
    for server_url in url.split(";"):
        _check_redis_url(server_url, variable)


def check_result_url(url: str) -> None:
    """Raises InvalidArgument for a result backend that Celery could not use."""
    variable = "TOWLINE_RESULT_URL"
    if url.startswith("db+"):
        _check_authority(url, variable)
    elif ";" in url:
        raise _refused(variable, "it must name one server")
    else:
        _check_redis_url(url, variable)


def _check_redis_url(url: str, variable: str) -> None:
    scheme, separator, rest = url.partition("://")
    if scheme in _NOT_YET:
        raise _refused(variable, f"{scheme}:// does not work yet, use redis:// or rediss://")
    if not separator or scheme not in {"redis", "rediss"}:
        raise _refused(variable, "it must begin with redis:// or rediss://")
    _check_authority(url, variable)
    path, _, query = rest.partition("/")[2].partition("?")
    if path and not path.isdecimal():
        raise _refused(variable, "the path after the host must be the number of a database")
    _check_parameters(scheme, dict(parse_qsl(query)), variable)


def _check_authority(url: str, variable: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        # No `from`: the cause repeats a part of the password.
        raise _refused(variable, f"its host or port cannot be read: {_ENCODE}") from None
    if "@" in parts.path + parts.query + parts.fragment or parts.fragment:
        raise _refused(variable, f"its password and its host cannot be told apart: {_ENCODE}")
    if not host:
        raise _refused(variable, "it names no host")


def _check_parameters(scheme: str, parameters: dict[str, str], variable: str) -> None:
    if scheme == "redis" and parameters:
        raise _refused(variable, "only a rediss:// URL has parameters")
    if not _TLS_PARAMETERS.issuperset(parameters):
        raise _refused(variable, f"its parameters may only be {', '.join(sorted(_TLS_PARAMETERS))}")
    if scheme == "rediss" and parameters.get("ssl_cert_reqs") not in _CERT_REQS:
        raise _refused(variable, "a rediss:// URL needs ?ssl_cert_reqs=required, optional or none")


def _refused(variable: str, reason: str) -> InvalidArgument:
    return InvalidArgument(f"{variable} cannot be used: {reason}.")

"""The URLs of PostgreSQL and Redis, read once as text: what cannot work is one sentence.

Each is handed to several libraries, which disagree and whose errors repeat pieces of a password.
A refusal here names the variable and never a part of the value.
"""

import re
from urllib.parse import parse_qsl, urlsplit

from shared.errors import InvalidArgument

_DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg")
# As SQLAlchemy finds them: the first @ ends the password.
_CREDENTIALS = re.compile(r"[^:/@]*(?::[^@]*)?@")

_NOT_YET = ("redis+socket", "sentinel")
# Of a rediss:// URL. What else stands behind the "?" no client takes.
_TLS_PARAMETERS = {
    f"ssl_{name}" for name in ("cert_reqs", "ca_certs", "certfile", "keyfile", "check_hostname")
}
_CERT_REQS = {"required", "optional", "none", "CERT_REQUIRED", "CERT_OPTIONAL", "CERT_NONE"}

_ENCODE = "in a user or password write %40 for @, %2F for /, %23 for #, %3F for ? and %3A for :"


def database_url(url: str, variable: str = "TOWLINE_DATABASE_URL") -> str:
    """The URL with the driver named. Raises InvalidArgument."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _DATABASE_SCHEMES:
        raise _refused(variable, "it must begin with postgresql://")
    where, _, _ = rest[_ends(rest) :].partition("?")
    if "@" in where:
        raise _refused(variable, f"it has more than one @: {_ENCODE}")
    host, _, _ = where.partition("/")
    if "," in host:
        raise _refused(variable, "write several hosts as …/name?host=first:5432&host=second:5432")
    if "%" in host:
        raise _refused(variable, "write the directory of a socket as …/name?host=/directory")
    _, _, port = host.rpartition("]")[2].partition(":")
    if port and not port.isdecimal():
        raise _refused(variable, f"its port is no number: {_ENCODE}")
    return f"postgresql+psycopg://{rest}"


def _ends(rest: str) -> int:
    """Where the user and the password end."""
    found = _CREDENTIALS.match(rest)
    return found.end() if found else 0


def check_broker_url(url: str, variable: str = "TOWLINE_BROKER_URL") -> None:
    """Raises InvalidArgument for a broker that Celery, or the governor, could not use."""
    for one in url.split(";"):
        _check_redis_url(one, variable)


def check_result_url(url: str) -> None:
    """Raises InvalidArgument for a result backend that Celery could not use."""
    variable = "TOWLINE_RESULT_URL"
    if url.startswith("db+"):
        _check_authority(url, variable)
    elif ";" in url:
        raise _refused(variable, "name one server")
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
        raise _refused(variable, "what stands behind the host must be the number of a database")
    _check_parameters(scheme, dict(parse_qsl(query)), variable)


def _check_authority(url: str, variable: str) -> None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        # No `from`: the cause repeats a piece of the password.
        raise _refused(variable, f"its host or port cannot be read: {_ENCODE}") from None
    if "@" in parts.path + parts.query + parts.fragment or parts.fragment:
        raise _refused(variable, f"its host cannot be told from its password: {_ENCODE}")
    if not host:
        raise _refused(variable, "it names no host")


def _check_parameters(scheme: str, parameters: dict[str, str], variable: str) -> None:
    if scheme == "redis" and parameters:
        raise _refused(variable, "only a rediss:// URL has parameters")
    if not _TLS_PARAMETERS.issuperset(parameters):
        raise _refused(variable, f"its parameters may be {', '.join(sorted(_TLS_PARAMETERS))}")
    if scheme == "rediss" and parameters.get("ssl_cert_reqs") not in _CERT_REQS:
        raise _refused(variable, "a rediss:// URL needs ?ssl_cert_reqs=required, optional or none")


def _refused(variable: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"{variable} cannot be used: {why}.")

"""The CA that TLS trusts for a request, and the client certificate that it presents.

For a registry with a `ca_file` only that CA is trusted. The registry's token service and storage
may have certificates from the same CA or from a public one, so both are trusted there. The client
certificate is presented only to the registry itself.
"""

from dataclasses import dataclass
from pathlib import Path

from shared.errors import TlsFailed
from shared.registry.hosts import Host

# Far more than a bundle of all public CAs.
_MAX_CHARACTERS = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """What a request trusts, and what it presents.

    `verify`, `cert`: arguments of `requests`. `authority`: a CA in PEM that is trusted in addition
    to `verify`.
    """

    verify: str | bool
    cert: tuple[str, str] | None = None
    authority: str | None = None

    @classmethod
    def of(cls, host: Host, *, is_own: bool) -> "TlsOptions":
        """The options of a request to the registry itself (`is_own`), or to another origin that the
        registry has named.

        Raises TlsFailed if a configured file cannot be read.
        """
        if is_own:
            for setting, file in (("ca_file", host.verify), *_named(host.cert)):
                if isinstance(file, str):
                    _read(host, setting, file, characters=1)
            return cls(host.verify, host.cert)
        if isinstance(host.verify, str):
            return cls(verify=True, authority=_read(host, "ca_file", host.verify))
        return cls(verify=True)


def _named(cert: tuple[str, str] | None) -> list[tuple[str, str]]:
    return list(zip(("client_certificate_file", "client_key_file"), cert or (), strict=False))


def _read(host: Host, setting: str, file: str, characters: int = _MAX_CHARACTERS) -> str:
    try:
        with Path(file).open(encoding="ascii", errors="replace") as opened:
            return opened.read(characters)
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise TlsFailed(
            f"The {setting} of {host.registry} cannot be used: {file}: {reason}."
        ) from None

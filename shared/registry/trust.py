"""Whom TLS trusts, and who we are on it.

A registry with a CA of its own is trusted by that alone. Its guests - storage behind a redirect, a
token service - may have certificates of the same CA or of a public one, so that both count there.
The client certificate is shown to the registry only.
"""

from dataclasses import dataclass
from pathlib import Path

from shared.errors import TlsFailed
from shared.registry.hosts import Host

# Far more than all the authorities of the world.
_MAX_CHARACTERS = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Trust:
    """`verify` and `cert` as `requests` takes them; `authority`: a CA in PEM beside `verify`."""

    verify: str | bool
    cert: tuple[str, str] | None = None
    authority: str | None = None

    @classmethod
    def of(cls, host: Host, *, is_own: bool) -> "Trust":
        """For the registry itself, or for a guest of it. Raises TlsFailed for missing files."""
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
        why = error.strerror or "it cannot be read"
        raise TlsFailed(f"The {setting} of {host.registry} is of no use: {file}: {why}.") from None

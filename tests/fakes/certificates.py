"""Makes a CA, and a server certificate from it. Needs `openssl`."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificates:
    """PEM files: `authority`, the CA; `certificate`, for 127.0.0.1 and signed by it; `key`."""

    authority: Path
    certificate: Path
    key: Path


def certificates(directory: Path) -> Certificates:
    """Make new files, valid for two days."""
    directory.mkdir(parents=True, exist_ok=True)
    made = Certificates(*(directory / f"{name}.pem" for name in ("authority", "server", "key")))
    authority_key = directory / "authority-key.pem"
    # Python 3.13 verifies strictly: the CA needs this extension.
    signs = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    _request(made.authority, authority_key, "-subj", "/CN=towline test authority", *signs)
    signer = ("-CA", str(made.authority), "-CAkey", str(authority_key))
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE")
    _request(made.certificate, made.key, "-subj", "/CN=127.0.0.1", *signer, *names)
    return made


def _request(certificate: Path, key: Path, *options: str) -> None:
    files = ("-out", str(certificate), "-keyout", str(key))
    command = ["openssl", "req", "-x509", "-days", "2", *_KEY, *files, *options]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr

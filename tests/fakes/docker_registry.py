"""Debian's `docker-registry`, for tests against an independent implementation."""

import ssl
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from tests.fakes.certificates import Certificates
from tests.fakes.token_issuer import ISSUER, SERVICE, TokenIssuer
from tests.support.waiting import wait_until
from workers.embedded.servers import free_port


class DockerRegistry:
    """One registry on loopback, with its blobs below `directory`. A context manager.

    `users`: passwords by name, for Basic authentication. `tokens`: the token service that decides
    what may be read. Without either, everything is public. `tls`: its certificate; without one it
    serves http.
    """

    def __init__(
        self,
        directory: Path,
        users: Mapping[str, str] | None = None,
        tls: Certificates | None = None,
        tokens: TokenIssuer | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._users = users or {}
        self._tls = tls
        self._tokens = tokens
        self.host = f"127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "DockerRegistry":
        config = self._directory / "config.yml"
        config.write_text(
            "version: 0.1\n"
            f"storage: {{filesystem: {{rootdirectory: {self._directory / 'data'}}}}}\n"
            f"http: {{addr: '{self.host}'{self._certificate()}}}\n" + self._auth()
        )
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(config)], stdout=log, stderr=log
            )
        wait_until(self._answers)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _certificate(self) -> str:
        if self._tls is None:
            return ""
        return f", tls: {{certificate: {self._tls.certificate}, key: {self._tls.key}}}"

    def _auth(self) -> str:
        if self._tokens is not None:
            return (
                f"auth: {{token: {{realm: '{self._tokens.realm}', service: {SERVICE}, "
                f"issuer: {ISSUER}, rootcertbundle: {self._tokens.tls.authority}}}}}\n"
            )
        if not self._users:
            return ""
        file = self._directory / "htpasswd"
        lines = [
            subprocess.check_output(["htpasswd", "-niB", user], input=secret, text=True)
            for user, secret in self._users.items()
        ]
        file.write_text("".join(lines))
        return f"auth: {{htpasswd: {{realm: lab, path: {file}}}}}\n"

    def push(self, layout: Path, tag: str, name: str) -> None:
        """Push everything that `tag` names in an OCI layout, with unchanged digests."""
        source, target = f"oci:{layout}:{tag}", f"docker://{self.host}/{name}"
        command = ["skopeo", "--insecure-policy", "copy", "--all", "--preserve-digests"]
        if self._users:
            command += ["--dest-creds", ":".join(next(iter(self._users.items())))]
        result = subprocess.run(
            [*command, "--dest-tls-verify=false", source, target],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr

    def _answers(self) -> bool:
        scheme, context = "http", None
        if self._tls is not None:
            scheme, context = "https", ssl.create_default_context(cafile=self._tls.authority)
        try:
            with urlopen(f"{scheme}://{self.host}/v2/", timeout=2, context=context) as answer:
                return bool(answer.status == 200)
        except HTTPError as error:
            # It is running and requires a login.
            error.close()
            return error.code == 401
        except (URLError, OSError):
            return False

"""Debian's `docker-registry`, for tests that want a registry nobody here wrote."""

import subprocess
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.waiting import wait_until
from workers.stack.servers import free_port


class DockerRegistry:
    """One registry on loopback, its blobs below `directory`. Use it as a context manager."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self.host = f"127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "DockerRegistry":
        config = self._directory / "config.yml"
        config.write_text(
            "version: 0.1\n"
            f"storage: {{filesystem: {{rootdirectory: {self._directory / 'data'}}}}}\n"
            f"http: {{addr: '{self.host}'}}\n"
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

    def push(self, layout: Path, tag: str, name: str) -> None:
        """Push everything that `tag` names in an OCI layout, digests kept."""
        source, target = f"oci:{layout}:{tag}", f"docker://{self.host}/{name}"
        command = ["skopeo", "--insecure-policy", "copy", "--all", "--preserve-digests"]
        result = subprocess.run(
            [*command, "--dest-tls-verify=false", source, target],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr

    def _answers(self) -> bool:
        try:
            with urlopen(f"http://{self.host}/v2/", timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

"""Names of our own: a resolver that answers what it is told, and another time something else."""

import socket
from typing import Any

import pytest

_real = socket.getaddrinfo


class FakeResolver:
    """Answers for the names it knows; the others are resolved as ever."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._answers: dict[str, list[list[str]]] = {}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Answer from now on."""
        monkeypatch.setattr(socket, "getaddrinfo", self._resolve)

    def name(self, name: str, *answers: list[str]) -> None:
        """`answers`: the addresses at the first time, the second time, and so on."""
        self._answers[name] = list(answers)

    def _resolve(self, host: str, port: Any, *arguments: Any, **options: Any) -> Any:
        if host not in self._answers:
            return _real(host, port, *arguments, **options)
        self.asked.append(host)
        answers = self._answers[host]
        addresses = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            found for address in addresses for found in _real(address, port, *arguments, **options)
        ]

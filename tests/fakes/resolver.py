"""A resolver with scripted addresses, which may change from one lookup to the next."""

import socket
from typing import Any

import pytest

_real = socket.getaddrinfo


class FakeResolver:
    """Answers for the names it was given; other names are resolved as usual. `asked`: the names
    of its lookups, in order.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._answers: dict[str, list[list[str]]] = {}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Replace the system's resolver until the end of the test."""
        monkeypatch.setattr(socket, "getaddrinfo", self._resolve)

    def name(self, name: str, *answers: list[str]) -> None:
        """`answers`: the addresses for the first lookup, the second, …; the last is repeated."""
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

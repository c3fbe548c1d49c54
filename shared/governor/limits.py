"""What an operator allows the whole fleet to ask of one host."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """None: without a limit. `connections`: open at once."""

    connections: int
    requests_per_second: float | None = None
    bandwidth_bytes_per_second: int | None = None

"""What is under way when a fault strikes, and waiting until it has ended by itself."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.acceptance.faults.fleet import FaultyFleet
from tests.fakes.faults import Throttle
from tests.fakes.registry import FakeRegistry, digest_of
from tests.waiting import wait_until

PLATFORM = "linux/amd64"
LAYER_BYTES = 2_500_000
# Two and a half seconds a layer.
PACE = Throttle(bytes_per_second=1_000_000)

# Everything ends within this time after the last fault.
SETTLED_SECONDS = 60


@dataclass
class Load:
    """Pulls of images that the registry holds. `images`: the layers of each, by repository."""

    fleet: FaultyFleet
    registry: FakeRegistry
    images: Mapping[str, Sequence[bytes]]
    pulls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for repository, layers in self.images.items():
            self.registry.put_image(repository, "1", layers)

    @property
    def layers(self) -> dict[str, bytes]:
        """Every distinct layer by its digest."""
        return {digest_of(raw): raw for layers in self.images.values() for raw in layers}

    def reference(self, repository: str) -> str:
        """How a pull names this image."""
        return f"{self.registry.host}/{repository}:1"

    def send(self, *repositories: str, **more: Any) -> list[str]:
        """Ask for these images, and wait until each pull stands in the catalog. Their ids."""
        with self.fleet.client() as client:
            sent = [
                client.pull(reference=self.reference(one), platform=PLATFORM, **more).id
                for one in repositories
            ]
            self.pulls += sent
            wait_until(lambda: self._recorded() == len(self.pulls), timeout=30)
        return sent

    def _recorded(self) -> int:
        return len(self.fleet.sql("SELECT 1 FROM pulls"))

    def under_way(self, layers: int = 2) -> None:
        """Wait until bytes of this many layers have been written down."""
        reached = "SELECT 1 FROM leases WHERE bytes_done > 0 AND owner IS NOT NULL"
        wait_until(lambda: len(self.fleet.sql(reached)) >= layers, timeout=30)

    def settle(self, seconds: float = SETTLED_SECONDS) -> None:
        """Wait until every pull has ended and was answered."""
        still = "SELECT 1 FROM pulls WHERE answered_at IS NULL LIMIT 1"
        wait_until(lambda: not self.fleet.sql(still), timeout=seconds)

    def handed_out(self) -> int:
        """Bytes of layers that the registry has sent."""
        return sum(
            request.sent
            for request in self.registry.asked("/blobs/")
            if request.path.rpartition("/")[2] in self.layers
        )


def standard_load(fleet: FaultyFleet, registry: FakeRegistry) -> Load:
    """Three images that share their base; a layer takes a few seconds."""
    registry.fail(PACE)
    base = os.urandom(LAYER_BYTES)
    return Load(fleet, registry, {name: [base, os.urandom(LAYER_BYTES)] for name in "abc"})

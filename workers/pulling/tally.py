"""How many bytes of each download came over the network, for the receipt."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from shared.catalog import pull_layers
from shared.catalog.database import Catalog
from shared.download.progress import Progress
from shared.oci.digest import Digest


@dataclass(slots=True)
class Transfer:
    """A download under a lease. `pull_id`: whom the bytes are fetched for; it changes when that
    pull ends and another wants them. `counted`: fetched bytes that stand in the catalog.
    """

    registry: str
    digest: Digest
    fence: int
    pull_id: str
    progress: Progress
    counted: int = 0
    renewed_at: float = 0.0


class Tally:
    """Of one process."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        # A download that ends while the keeper writes it down is not counted twice.
        self._lock = threading.Lock()

    def count(self, transfers: Sequence[Transfer]) -> None:
        """Write down what was fetched since the last time. Raises CatalogUnavailable."""
        with self._lock:
            totals = [(one, one.progress.fetched) for one in transfers]
            new: Counter[tuple[str, Digest]] = Counter()
            for one, total in totals:
                new[one.pull_id, one.digest] += total - one.counted
            if any(new.values()):
                with self._catalog.begin() as tx:
                    pull_layers.fetched(tx, new)
            for one, total in totals:
                one.counted = total

    def uncounted(self, transfer: Transfer) -> int:
        """What was fetched and is not written down yet: whoever asks does that."""
        with self._lock:
            new = transfer.progress.fetched - transfer.counted
            transfer.counted += new
            return new

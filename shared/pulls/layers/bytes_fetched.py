"""How many bytes of each layer came over the network, for the receipt."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from shared.catalog.database.catalog import Catalog
from shared.catalog.layers import pull_layers
from shared.download.progress import Progress
from shared.oci.digest import Digest


@dataclass(slots=True)
class Transfer:
    """A download under a lease.

    `pull_id`: the pull that the bytes are fetched for; it changes when that pull ends while another
    wants the layer. `counted`: fetched bytes that the catalog knows of. `renewed_at`:
    time.monotonic() of the lease's last renewal.
    """

    registry: str
    digest: Digest
    fence: int
    pull_id: str
    progress: Progress
    counted: int = 0
    renewed_at: float = 0.0


class FetchedBytes:
    """Records in the catalog how many bytes the downloads of this process have fetched."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        # A download may end while the renewer records it: its bytes must not be counted twice.
        self._lock = threading.Lock()

    def count(self, transfers: Sequence[Transfer]) -> None:
        """Record the bytes fetched since the last call. Raises CatalogUnavailable."""
        with self._lock:
            totals = [(transfer, transfer.progress.fetched) for transfer in transfers]
            new: Counter[tuple[str, Digest]] = Counter()
            for transfer, total in totals:
                new[transfer.pull_id, transfer.digest] += total - transfer.counted
            if any(new.values()):
                with self._catalog.begin() as tx:
                    pull_layers.add_bytes_fetched(tx, new)
            for transfer, total in totals:
                transfer.counted = total

    def uncounted(self, transfer: Transfer) -> int:
        """Bytes fetched but not recorded yet. They now count as recorded, so the caller must record
        them.
        """
        with self._lock:
            new = transfer.progress.fetched - transfer.counted
            transfer.counted += new
            return new

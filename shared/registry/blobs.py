"""Who may serve one blob, and its body from any byte to any other.

The hosts of its route in their order, then the places that its descriptor names (`urls`: foreign
layers), which get no credentials. Whoever fails is passed over; whoever served bytes that turned
out to be of no use is not asked for this blob again. Where a registry redirects to a signed address
the next range goes straight there, until it has expired.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.errors import BlobUnknown, SizeMismatch, TowlineError
from shared.oci.digest import Digest
from shared.oci.reference import Reference
from shared.registry.asking import REFUSED_SIGNATURES, Answer, Asker
from shared.registry.bodies import (
    BlobBody,
    check_length,
    is_of_another_size,
    is_proved,
    refuse_encoding,
)
from shared.registry.hosts import Host
from shared.registry.responses import error_of, unsatisfied_total
from shared.registry.routing import most_useful
from shared.registry.urls import same_origin

# What a redirect's target says that is not valid any more.
_EXPIRED = REFUSED_SIGNATURES | {404, 410}
# A pull-through cache ignores ranges until it has the whole blob (distribution#4667).
_RANGES_FORGOTTEN_SECONDS = 600.0


class RangeSupport:
    """Which hosts answered a Range with something else. Of one process, for a while."""

    def __init__(self) -> None:
        self._refused: dict[str, float] = {}

    def refused(self, host: str) -> None:
        """It did so now."""
        self._refused[host] = time.monotonic()

    def expected(self, host: str) -> bool:
        """Whether ranges may be counted on."""
        refused_at = self._refused.get(host)
        return refused_at is None or time.monotonic() - refused_at > _RANGES_FORGOTTEN_SECONDS


@dataclass(frozen=True, slots=True)
class _Place:
    host: Host
    url: str | None = None


class BlobSource:
    """One blob of `size` bytes. For one download, and all threads of it.

    `patience_seconds`: how long a request may take to its first byte.
    """

    def __init__(
        self,
        asker: Asker,
        ranges: RangeSupport,
        route: Sequence[Host],
        reference: Reference,
        digest: Digest,
        size: int,
        urls: Sequence[str] = (),
        patience_seconds: float = 60.0,
    ) -> None:
        self.patience_seconds = patience_seconds
        self._asker = asker
        self._ranges = ranges
        self._reference = reference
        self._digest = digest
        self._size = size
        self._name = f"{digest} of {reference.name}"
        self._lock = threading.Lock()
        self._places = [_Place(host) for host in route] + [_Place(route[-1], url) for url in urls]
        # Where a place redirected to.
        self._targets: dict[_Place, str] = {}
        # Whose bytes were taken since the last blame, and a body of each.
        self._served: dict[_Place, BlobBody] = {}

    @property
    def serves_ranges(self) -> bool:
        """Whether several ranges may be asked for at once, as far as is known."""
        return self._ranges.expected(self._places[0].host.registry)

    def open(self, first: int = 0, end: int | None = None) -> BlobBody:
        """The blob from byte `first` up to, without, `end` (None: its size), or all of it where
        nobody can do ranges: `BlobBody.first` and `.end` say which.

        Raises the most useful error of all who were asked, and SizeMismatch before any byte of a
        body whose length contradicts the descriptor.
        """
        errors: list[tuple[Host, TowlineError]] = []
        for place in self._places:
            try:
                body = self._open(place, first, self._size if end is None else end)
            except TowlineError as error:
                errors.append((place.host, error))
            else:
                with self._lock:
                    self._served[place] = body
                return body
        raise most_useful(errors)

    def blame(self, body: BlobBody | None = None) -> bool:
        """What came was of no use: this body cut short without progress, or all of it wrong.

        Whether there is somebody else to ask; then who served it is not asked again, and a mirror
        not by anybody for a while.
        """
        with self._lock:
            served, self._served = self._served, {}
            if body is not None:
                served = {place: one for place, one in served.items() if place == body.place}
            mirrors = {place for place in served if place.host.upstream and place.url is None}
            # Where a mirror was among them, it was the mirror.
            blamed = mirrors or set(served)
            left = [place for place in self._places if place not in blamed]
            if not blamed or not left:
                return False
            self._places = left
        for place in mirrors:
            served[place].distrust()
        return True

    def _open(self, place: _Place, first: int, end: int) -> BlobBody:
        if (first, end) != (0, self._size):
            ranged = self._open_range(place, first, end)
            if ranged is not None:
                return ranged
        # No Range for the whole: some registries answer 400 to one (containerd#11953).
        answer = self._ask(place, {})
        try:
            if answer.response.status_code != 200:
                raise error_of(answer.response, f"The blob {self._name}", missing=BlobUnknown)
            return self._whole(place, answer)
        except BaseException:
            answer.close()
            raise

    def _open_range(self, place: _Place, first: int, end: int) -> BlobBody | None:
        """The body of a closed range; None where the answer is of no use and is not final."""
        answer = self._ask(place, {"Range": f"bytes={first}-{end - 1}"})
        response = answer.response
        try:
            if response.status_code == 206 and is_proved(response, first, end, self._size):
                refuse_encoding(response, f"The blob {self._name}", end - first)
                return BlobBody(answer, first, end, self._name, place)
            if response.status_code == 200:
                whole = self._whole(place, answer)
                self._ignores_ranges(place)
                return whole
            if response.status_code == 416:
                real = unsatisfied_total(response.headers.get("Content-Range", ""))
                if real is not None and real != self._size:
                    raise SizeMismatch(
                        f"The blob {self._name} has {real} bytes instead of {self._size}."
                    )
            elif response.status_code not in {206, 400, 501}:
                raise error_of(response, f"The blob {self._name}", missing=BlobUnknown)
        except BaseException:
            answer.close()
            raise
        answer.discard()
        if response.status_code != 206 or not is_of_another_size(response, self._size):
            # Else it is what the manifest says that is wrong.
            self._ignores_ranges(place)
        return None

    def _ignores_ranges(self, place: _Place) -> None:
        # What a document names elsewhere is not the registry.
        if place.url is None:
            self._ranges.refused(place.host.registry)

    def _whole(self, place: _Place, answer: Answer) -> BlobBody:
        refuse_encoding(answer.response, f"The blob {self._name}", self._size)
        check_length(answer.response, self._size, f"The blob {self._name}")
        return BlobBody(answer, 0, self._size, self._name, place)

    def _ask(self, place: _Place, headers: Mapping[str, str]) -> Answer:
        if place.url is not None:
            return self._asker.ask_elsewhere(place.host, place.url, headers)
        target = self._targets.get(place)
        if target is not None:
            answer = self._asker.ask_target(place.host, target, headers)
            if answer.response.status_code not in _EXPIRED:
                return answer
            # It has expired: the registry gives a new one.
            answer.discard()
            with self._lock:
                if self._targets.get(place) == target:
                    del self._targets[place]
        path = f"blobs/{self._digest}"
        answer = self._asker.ask(place.host, self._reference.repository, path, headers)
        if answer.response.ok and not same_origin(place.host.base, answer.response.url):
            self._targets[place] = answer.response.url
        return answer

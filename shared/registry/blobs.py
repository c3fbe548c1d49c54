"""Who may serve one blob, and its body from any byte on.

The hosts of its route in their order, then the places that its descriptor names (`urls`: foreign
layers), which get no credentials. Whoever fails is passed over; whoever served bytes that turned
out to be of no use is not asked for this blob again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.errors import BlobUnknown, SizeMismatch, TowlineError
from shared.oci.digest import Digest
from shared.oci.reference import Reference
from shared.registry.asking import Answer, Asker
from shared.registry.bodies import BlobBody, check_length, is_proved, refuse_encoding
from shared.registry.hosts import Host
from shared.registry.responses import error_of, unsatisfied_total
from shared.registry.routing import most_useful

# Asks one place for the blob, with these headers.
_Ask = Callable[[dict[str, str]], Answer]


@dataclass(frozen=True, slots=True)
class _Place:
    host: Host
    url: str | None = None


class BlobSource:
    """One blob of `size` bytes. For one download, and one thread at a time."""

    def __init__(
        self,
        asker: Asker,
        route: Sequence[Host],
        reference: Reference,
        digest: Digest,
        size: int,
        urls: Sequence[str] = (),
    ) -> None:
        self._asker = asker
        self._reference = reference
        self._digest = digest
        self._size = size
        self._name = f"{digest} of {reference.name}"
        self._places = [_Place(host) for host in route] + [_Place(route[-1], url) for url in urls]
        # Whose bytes were taken since the last blame.
        self._served: dict[_Place, BlobBody] = {}

    def open(self, first: int = 0) -> BlobBody:
        """The blob from byte `first` on, or from 0 where nobody can do ranges.

        `BlobBody.first` says which. Raises the most useful error of all who were asked, and
        SizeMismatch before any byte of a body whose length contradicts the descriptor.
        """
        errors: list[tuple[Host, TowlineError]] = []
        for place in self._places:
            try:
                body = self._open(self._asks(place), first)
            except TowlineError as error:
                errors.append((place.host, error))
            else:
                self._served[place] = body
                return body
        raise most_useful(errors)

    def blame(self) -> bool:
        """What came was of no use: cut short without progress, or wrong. Whether there is somebody
        else to ask; then who served it is not asked again, and a mirror not by anybody for a while.
        """
        served, self._served = self._served, {}
        mirrors = {place for place in served if place.host.upstream and place.url is None}
        # Where a mirror was among them, it was the mirror.
        blamed = mirrors or set(served)
        left = [place for place in self._places if place not in blamed]
        if not blamed or not left:
            return False
        for place in mirrors:
            served[place].distrust()
        self._places = left
        return True

    def _asks(self, place: _Place) -> _Ask:
        def ask(headers: dict[str, str]) -> Answer:
            if place.url is not None:
                return self._asker.ask_elsewhere(place.host, place.url, headers)
            return self._asker.ask(
                place.host, self._reference.repository, f"blobs/{self._digest}", headers
            )

        return ask

    def _open(self, ask: _Ask, first: int) -> BlobBody:
        if first:
            ranged = self._open_range(ask, first)
            if ranged is not None:
                return ranged
        # No Range on a fresh download: some registries answer 400 to one (containerd#11953).
        answer = ask({})
        try:
            if answer.response.status_code != 200:
                raise error_of(answer.response, f"The blob {self._name}", missing=BlobUnknown)
            return self._whole(answer)
        except BaseException:
            answer.close()
            raise

    def _open_range(self, ask: _Ask, first: int) -> BlobBody | None:
        """The body of a closed range; None where the answer is of no use and is not final."""
        answer = ask({"Range": f"bytes={first}-{self._size - 1}"})
        response = answer.response
        try:
            if response.status_code == 206 and is_proved(response, first, self._size):
                refuse_encoding(response, f"The blob {self._name}")
                return BlobBody(answer, first, self._name)
            if response.status_code == 200:
                return self._whole(answer)
            if response.status_code == 416:
                real = unsatisfied_total(response.headers.get("Content-Range", ""))
                if real is not None and real != self._size:
                    raise SizeMismatch(
                        f"The blob {self._name} has {real} bytes instead of {self._size}."
                    )
            elif response.status_code not in {206, 400}:
                raise error_of(response, f"The blob {self._name}", missing=BlobUnknown)
        except BaseException:
            answer.close()
            raise
        answer.discard()
        return None

    def _whole(self, answer: Answer) -> BlobBody:
        refuse_encoding(answer.response, f"The blob {self._name}")
        check_length(answer.response, self._size, f"The blob {self._name}")
        return BlobBody(answer, 0, self._name)

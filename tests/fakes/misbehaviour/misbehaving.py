"""One named fault of a registry: what it does, and what is promised then."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.misbehaviour.promise import Promise
from tests.fakes.misbehaviour.scene import Scene, staged


@dataclass(frozen=True)
class Misbehaviour:
    """`arrange` makes a scene's registry, which holds the image already, misbehave.

    `tls`: the registry speaks TLS, with a certificate of the test's own authority.
    `takes_time`: a client that means well may be busy with it for a minute.
    """

    name: str
    does: str
    promise: Promise
    arrange: Callable[[Scene], Any] = field(repr=False)
    tls: bool = False
    takes_time: bool = False

    @contextmanager
    def staged(self, **options: Any) -> Iterator[Scene]:
        """A scene where this is played, once."""
        with staged(self.name, **options) as scene:
            scene.bring()
            self.arrange(scene)
            yield scene

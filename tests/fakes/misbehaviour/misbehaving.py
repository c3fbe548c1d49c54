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
    `is_silent`: it says nothing for as long as one likes to wait.
    """

    name: str
    does: str
    promise: Promise
    arrange: Callable[[Scene], Any] = field(repr=False)
    tls: bool = False
    is_silent: bool = False

    @contextmanager
    def staged(self, **options: Any) -> Iterator[Scene]:
        """A scene where this is played, once."""
        with staged(self.name, **options) as scene:
            scene.bring()
            self.arrange(scene)
            yield scene

"""One named fault of a registry: what the registry does, and what towline promises."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.misbehaviour.promise import Promise
from tests.fakes.misbehaviour.scene import Scene, staged


@dataclass(frozen=True)
class Misbehaviour:
    """`arrange` makes the registry of a scene misbehave; the image is in place before.

    `does`: what the registry does, in words. `tls`: the registry uses TLS, with a certificate of
    the test's CA. `takes_time`: even a correct client may need a minute.
    """

    name: str
    does: str
    promise: Promise
    arrange: Callable[[Scene], Any] = field(repr=False)
    tls: bool = False
    takes_time: bool = False

    @contextmanager
    def staged(self, **options: Any) -> Iterator[Scene]:
        """A scene with this fault."""
        with staged(self.name, **options) as scene:
            scene.bring()
            self.arrange(scene)
            yield scene

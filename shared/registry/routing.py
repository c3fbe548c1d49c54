"""Several hosts for one thing: each is asked in its turn, and the most useful failure is told."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from shared.errors import BlobUnknown, ManifestUnknown, TowlineError
from shared.registry.hosts import Host

_log = logging.getLogger(__name__)

T = TypeVar("T")


def first_of(route: Sequence[Host], ask: Callable[[Host], T]) -> T:
    """What the first host answers that has an answer. Raises the most useful error.

    Whatever a mirror fails with, the next host may do better: it is down, does not have it, does
    not know us, serves wrong bytes.
    """
    errors: list[tuple[Host, TowlineError]] = []
    for host in route:
        try:
            return ask(host)
        except TowlineError as error:
            errors.append((host, error))
            if host is not route[-1]:
                _log.info("%s is passed over: %s", host.registry, error)
    raise most_useful(errors)


def most_useful(errors: Sequence[tuple[Host, TowlineError]]) -> TowlineError:
    """What the registry itself says, unless that is only "not found" and a mirror knows better.

    Source: containerd#12402, where a 404 hid that the network was broken.
    """
    own = [error for host, error in errors if host.upstream is None]
    mirrors = [error for host, error in errors if host.upstream is not None]
    for error in [*own, *mirrors]:
        if not isinstance(error, ManifestUnknown | BlobUnknown):
            return error
    return [*own, *mirrors][0]

"""Tries several hosts for one thing, in order, and reports the most useful failure."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from shared.errors import BlobUnknown, ManifestUnknown, TowlineError
from shared.registry.hosts import Host

_log = logging.getLogger(__name__)

T = TypeVar("T")


def try_hosts(route: Sequence[Host], ask: Callable[[Host], T]) -> T:
    """The result of the first host that succeeds. Raises the most useful error if none does.

    Any error moves on to the next host. A mirror may be down, lack the content, refuse our
    credentials or serve wrong bytes, and the next host may still succeed.
    """
    errors: list[tuple[Host, TowlineError]] = []
    for host in route:
        try:
            return ask(host)
        except TowlineError as error:
            errors.append((host, error))
            if host is not route[-1]:
                _log.info("Skipping %s: %s", host.registry, error)
    raise most_useful_error(errors)


def most_useful_error(errors: Sequence[tuple[Host, TowlineError]]) -> TowlineError:
    """The error to report: the registry's own, unless that is only "not found" and a mirror failed
    for another reason.

    Source: containerd#12402, where a 404 hid a broken network.
    """
    own = [error for host, error in errors if host.upstream is None]
    mirrors = [error for host, error in errors if host.upstream is not None]
    for error in [*own, *mirrors]:
        if not isinstance(error, ManifestUnknown | BlobUnknown):
            return error
    return [*own, *mirrors][0]

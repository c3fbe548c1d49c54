"""Kept connections, each of a judged address. TLS and `Host` go by the name that was asked for.

Those of different reach are kept in different pools: one that may lead into this network is never
found by a request that may not go there.
"""

import socket
from functools import partial
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from shared.registry.addresses import Reach
from shared.registry.dialing import dial
from shared.registry.heads import TimedHead

_POOLED_HOSTS = 32
_POOLED_CONNECTIONS = 64


class JudgedConnection(HTTPConnection):
    """A connection that goes no further than `most`. `reach`: how far it went."""

    reach: Reach | None = None
    response_class = TimedHead

    def __init__(self, *arguments: Any, most: Reach, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._most = most

    def _new_conn(self) -> socket.socket:
        seconds = float(self.timeout or 0)
        try:
            connected, self.reach = dial(
                self._dns_host, self.port, self._most, seconds, self.socket_options or ()
            )
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"{self.host} does not answer") from error
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error
        return connected


class _JudgedSecureConnection(JudgedConnection, HTTPSConnection):
    """The same below TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = JudgedConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _JudgedSecureConnection


class Adapter(HTTPAdapter):
    """The connections of one reach. `authority`: a CA in PEM, trusted beside the usual ones.

    A proxy's own address is the operator's word and is not judged.
    """

    def __init__(self, most: Reach, authority: str | None) -> None:
        self._most = most
        self._trust: dict[str, Any] = {"ca_cert_data": authority} if authority else {}
        super().__init__(_POOLED_HOSTS, _POOLED_CONNECTIONS, max_retries=0)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **options: Any
    ) -> None:
        """The base class's, over judged connections."""
        super().init_poolmanager(connections, maxsize, block, **options, **self._trust)
        pools: Any = {"http": _Pool, "https": _SecurePool}
        self.poolmanager.pool_classes_by_scheme = {
            scheme: partial(pool, most=self._most) for scheme, pool in pools.items()
        }

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """The base class's, with the same trust."""
        return super().proxy_manager_for(proxy, **options, **self._trust)


def reach_of_answer(response: requests.Response) -> Reach | None:
    """Where an answer came from, None where a proxy knows."""
    connection = response.raw.connection
    return connection.reach if isinstance(connection, JudgedConnection) else None

"""Pools of connections to checked addresses. TLS and the `Host` header use the requested name.

Each scope has its own pools: a request that may not enter the private network never reuses
a connection that leads there.
"""

import socket
from functools import partial
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from shared.registry.transport.addresses import AddressScope
from shared.registry.transport.dialing import dial
from shared.registry.transport.response_head import DeadlineResponse

_POOLED_HOSTS = 32
_POOLED_CONNECTIONS = 64


class CheckedConnection(HTTPConnection):
    """A connection to an address in a scope up to `most`. `scope`: that of the address, None before
    it is connected.
    """

    scope: AddressScope | None = None
    response_class = DeadlineResponse

    def __init__(self, *arguments: Any, most: AddressScope, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._most = most

    def _new_conn(self) -> socket.socket:
        seconds = float(self.timeout or 0)
        try:
            connected, self.scope = dial(
                self._dns_host, self.port, self._most, seconds, self.socket_options or ()
            )
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"{self.host} does not answer") from error
        except OSError as error:
            raise NewConnectionError(self, str(error)) from error
        return connected


class _CheckedSecureConnection(CheckedConnection, HTTPSConnection):
    """A checked connection with TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = CheckedConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _CheckedSecureConnection


class CheckedAdapter(HTTPAdapter):
    """The connection pools for addresses up to one scope.

    `authority`: a CA in PEM, trusted in addition to the usual ones. The address of a proxy is not
    checked: the operator has configured it.
    """

    def __init__(self, most: AddressScope, authority: str | None) -> None:
        self._most = most
        self._trust: dict[str, Any] = {"ca_cert_data": authority} if authority else {}
        super().__init__(_POOLED_HOSTS, _POOLED_CONNECTIONS, max_retries=0)

    def init_poolmanager(
        self, connections: int, maxsize: int, block: bool = False, **options: Any
    ) -> None:
        """Create the pool manager of the base class, with pools of checked connections."""
        super().init_poolmanager(connections, maxsize, block, **options, **self._trust)
        pools: Any = {"http": _Pool, "https": _SecurePool}
        self.poolmanager.pool_classes_by_scheme = {
            scheme: partial(pool, most=self._most) for scheme, pool in pools.items()
        }

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        """Return the proxy manager of the base class, with the additional CA."""
        return super().proxy_manager_for(proxy, **options, **self._trust)


def scope_of_response(response: requests.Response) -> AddressScope | None:
    """The scope of the address that a response came from. None if it came through a proxy."""
    connection = response.raw.connection
    return connection.scope if isinstance(connection, CheckedConnection) else None

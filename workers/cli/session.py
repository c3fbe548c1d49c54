"""Opens the catalog and the queue for a command: of the configured fleet, or the embedded stack."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from shared.catalog.database.catalog import Catalog
from shared.catalog.schema.revision import check
from shared.settings import Settings
from workers.celery_apps import FleetApp, make_app
from workers.cli.patience import PatientCatalog
from workers.embedded.joining import stack_in_use

# A person waits for the command, so it tries once and leaves the rest to the reconciler.
_HASTE = {
    "result_backend_always_retry": False,
    "result_backend_transport_options": {"retry_policy": {"max_retries": 1, "timeout": 5.0}},
    "redis_socket_timeout": 5,
}
_HASTY_TRANSPORT = {"socket_timeout": 5, "socket_connect_timeout": 3}


@dataclass(frozen=True, slots=True)
class Session:
    """An open connection to a fleet.

    `embedded`: it is the embedded stack, which ends with this command unless `towline up` runs.
    """

    settings: Settings
    catalog: Catalog
    app: FleetApp
    embedded: bool


@contextmanager
def open_session(*, checked: bool = True) -> Iterator[Session]:
    """Open the fleet, and start the embedded stack if no fleet is configured.

    With `checked` False the schema is not checked, for `towline doctor`. Raises InvalidArgument for
    settings that cannot be used, CatalogUnavailable if the database cannot be reached.
    """
    settings = Settings.read()
    if settings.embedded:
        # No patience: if the embedded database stops, the whole stack does.
        with stack_in_use(settings) as fleet, _session(fleet, 0.0, checked) as session:
            yield session
    else:
        with _session(settings, settings.lease_seconds, checked) as session:
            yield session


@contextmanager
def _session(settings: Settings, patience_seconds: float, checked: bool) -> Iterator[Session]:
    catalog = PatientCatalog(settings.sqlalchemy_url, patience_seconds)
    app = make_app(settings)
    transport = {**app.conf.broker_transport_options, **_HASTY_TRANSPORT}
    app.conf.update(_HASTE, broker_transport_options=transport)
    try:
        if checked:
            check(catalog)
        yield Session(settings, catalog, app, embedded=not patience_seconds)
    finally:
        app.close()
        catalog.close()

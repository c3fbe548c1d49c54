"""What a command works with: the configured fleet, or the embedded stack while it runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from celery import Celery

from shared.catalog.database import Catalog
from shared.catalog.schema import check
from shared.settings import Settings
from workers.config import make_app
from workers.stack.joining import joined


@dataclass(frozen=True, slots=True)
class Session:
    """An open way to the fleet. `embedded`: it ends with this command unless `towline up` runs."""

    settings: Settings
    catalog: Catalog
    app: Celery
    embedded: bool


@contextmanager
def open_session() -> Iterator[Session]:
    """Raises InvalidArgument for settings, CatalogUnavailable where the database is away."""
    settings = Settings.read()
    if settings.embedded:
        with joined(settings) as fleet, _session(fleet, embedded=True) as session:
            yield session
    else:
        with _session(settings, embedded=False) as session:
            yield session


@contextmanager
def _session(settings: Settings, *, embedded: bool) -> Iterator[Session]:
    catalog = Catalog(settings.sqlalchemy_url)
    try:
        check(catalog)
        yield Session(settings, catalog, make_app(settings), embedded)
    finally:
        catalog.close()

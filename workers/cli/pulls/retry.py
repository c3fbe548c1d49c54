"""`towline retry`: for each failed or cancelled pull, a new pull with the same request."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import click

from shared import errors
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.database.paging import pages
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import lifecycle, listings
from shared.errors import InvalidArgument, TowlineError
from shared.pulls.pull_ids import find_pull
from workers.cli import documents
from workers.cli.options import json_option
from workers.cli.prefixes import whole_id
from workers.cli.session import Session, open_session
from workers.messages.client import UNREADABLE, record_retry, send_recorded
from workers.queues.queue_access import check_queue


@click.command("retry")
@click.argument("pull_ids", nargs=-1, metavar="PULL…")
@click.option(
    "--failed", "all_failed", is_flag=True, help="Every failed pull that was not retried yet."
)
@click.option(
    "--error-class", metavar="CLASS", help="With --failed: only pulls that failed with this class."
)
@json_option
def retry_command(
    pull_ids: tuple[str, ...], error_class: str | None, *, all_failed: bool, as_json: bool
) -> int:
    """Retry pulls that failed or were cancelled.

    PULL is an id, or its first characters: at least 8, and enough to tell it from other ids. Each
    pull becomes a new pull that names the old one, and whose id is printed. If an earlier retry is
    still open, its id is printed instead. Bytes on the volume are not fetched again. If a pull
    cannot be retried, the exit status is 2, and the other pulls are still retried.
    """
    if bool(pull_ids) == all_failed:
        raise click.UsageError("Name pulls, or use --failed for all failed pulls.")
    if error_class is not None and not all_failed:
        raise click.UsageError("--error-class needs --failed.")
    if error_class is not None and not _is_error_class(error_class):
        raise InvalidArgument(
            f"{error_class} is not an error class: `towline doctor` lists those of failed pulls."
        )
    with open_session() as session:
        check_queue(session.app)
        retrial = _Retrial(session)
        if all_failed:
            old = _failed(session.catalog, error_class)
        else:
            named = _named(session.catalog, pull_ids, retrial.refused)
            retrial.earlier = _open_retries(session.catalog, named)
            old = iter([named])
        _print(chain.from_iterable(map(retrial.again, old)), as_json=as_json)
    for old_id, retry in retrial.earlier.items():
        click.echo(
            f"The pull {old_id} was retried already, as {retry.id}, which is {retry.state}.",
            err=True,
        )
    for sentence in retrial.refused:
        click.echo(f"towline: {sentence}", err=True)
    if not retrial.sent:
        click.echo(
            "The queue cannot be reached any more: the reconciler sends what was recorded.",
            err=True,
        )
    if all_failed and not retrial.count:
        click.echo("There is no failed pull that was not retried.", err=True)
    return 2 if retrial.refused else 0


class _Retrial:
    """Retries pulls page by page, and collects the results.

    `sent`: whether the queue has accepted all new pulls. `refused`: a sentence for each pull that
    cannot be retried. `earlier`: open pulls by the id of the pull that they retry; they are results
    as they are.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self.refused: list[str] = []
        self.earlier: Mapping[str, Pull] = {}
        self.sent = True
        self.count = 0

    def again(self, page: Sequence[Pull]) -> list[Pull]:
        """Record and send a new pull for each pull that has no open retry. Returns all retries."""
        new, earlier = [], []
        for pull in page:
            if pull.id in self.earlier:
                earlier.append(self.earlier[pull.id])
                continue
            try:
                new.append(record_retry(self._session.catalog, pull))
            except InvalidArgument as error:
                self.refused.append(str(error))
        self.sent = self.sent and send_recorded(self._session.app, new)
        self.count += len(new)
        return [*earlier, *new]


def _failed(catalog: Catalog, error_class: str | None) -> Iterator[list[Pull]]:
    """Pages of the pulls that failed before now.

    Without this bound, a new pull that fails at once would be retried by the same command.
    """
    with catalog.begin() as tx:
        now = lifecycle.clock(tx)

    def look(tx: Connection, after: Pull | None) -> list[Pull]:
        return listings.failed(tx, after, error_class=error_class, but=UNREADABLE, until=now)

    return pages(catalog, look)


def _named(catalog: Catalog, pull_ids: Sequence[str], refused: list[str]) -> list[Pull]:
    """The pulls with these ids. Adds a sentence to `refused` for each unknown or ambiguous id."""
    found = {}
    for given in pull_ids:
        try:
            pull_id = whole_id(catalog, given)
            with catalog.begin() as tx:
                found[pull_id] = find_pull(tx, pull_id)
        except InvalidArgument as error:
            refused.append(str(error))
    return list(found.values())


def _open_retries(catalog: Catalog, named: Sequence[Pull]) -> dict[str, Pull]:
    """Open pulls by the id of the named pull that they retry."""
    with catalog.begin() as tx:
        found = listings.open_retries(tx, [pull.id for pull in named])
    return {pull.retry_of: pull for pull in found if pull.retry_of}


def _is_error_class(name: str) -> bool:
    kind = getattr(errors, name, None)
    return isinstance(kind, type) and issubclass(kind, TowlineError)


def _print(new: Iterable[Pull], *, as_json: bool) -> None:
    if as_json:
        documents.print_items(map(documents.pull, new))
        return
    for pull in new:
        click.echo(pull.id)

"""`towline retry`: a new pull that asks for what one that failed or was cancelled asked for."""

import json
from collections.abc import Sequence

import click

from shared import errors
from shared.catalog import ends, pulls
from shared.catalog.database import Catalog
from shared.catalog.pull_values import Pull
from shared.errors import InvalidArgument, TowlineError
from workers.cli.pull_ids import possible_id
from workers.cli.session import open_session
from workers.client import UNREADABLE, check_queue, record_retry, send_recorded


@click.command("retry")
@click.argument("pull_ids", type=possible_id, nargs=-1, metavar="PULL…")
@click.option("--failed", "all_failed", is_flag=True, help="Every failed pull not retried yet.")
@click.option("--error-class", metavar="CLASS", help="With --failed: those of this class only.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def retry_command(
    pull_ids: tuple[str, ...], error_class: str | None, *, all_failed: bool, as_json: bool
) -> int:
    """Pull again what failed or was cancelled; prints the new pulls' ids.

    Each becomes a new pull that names the old one; what is on the volume is not fetched again.
    Exit status 2 for a pull that cannot be retried; the others are.
    """
    if bool(pull_ids) == all_failed:
        raise click.UsageError("Name pulls, or --failed for all that failed.")
    if error_class is not None and not all_failed:
        raise click.UsageError("--error-class goes with --failed.")
    if error_class is not None and not _is_error_class(error_class):
        raise InvalidArgument(f"{error_class} is no error class: `towline doctor` counts by class.")
    with open_session() as session:
        check_queue(session.app)
        old, refused = _chosen(session.catalog, pull_ids, error_class)
        new: list[Pull] = []
        for pull in old:
            try:
                new.append(record_retry(session.catalog, pull))
            except InvalidArgument as error:
                refused.append(str(error))
        sent = send_recorded(session.app, new)
    for sentence in refused:
        click.echo(f"towline: {sentence}", err=True)
    if not sent:
        click.echo("The queue broke off: the reconciler sends what was recorded.", err=True)
    _print(new, as_json=as_json)
    if all_failed and not new:
        click.echo("Nothing failed that was not retried.", err=True)
    return 2 if refused else 0


def _chosen(
    catalog: Catalog, pull_ids: Sequence[str], error_class: str | None
) -> tuple[list[Pull], list[str]]:
    """The pulls to retry, and a sentence for each that is none."""
    with catalog.begin() as tx:
        if not pull_ids:
            failed = ends.failed(tx, error_class)
            return [pull for pull in failed if pull.error_class not in UNREADABLE], []
        found = {pull_id: pulls.get(tx, pull_id) for pull_id in pull_ids}
    unknown = [
        f"There is no pull {pull_id}: `towline status` lists them."
        for pull_id, pull in found.items()
        if pull is None
    ]
    return [pull for pull in found.values() if pull is not None], unknown


def _is_error_class(name: str) -> bool:
    kind = getattr(errors, name, None)
    return isinstance(kind, type) and issubclass(kind, TowlineError)


def _print(new: Sequence[Pull], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {
                "pull_id": pull.id,
                "retry_of": pull.retry_of,
                "reference": pull.reference,
                "state": pull.state,
            }
            for pull in new
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for pull in new:
        click.echo(pull.id)

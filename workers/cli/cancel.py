"""`towline cancel`: the row ends at once; whoever is at work on it finds out within two seconds."""

import functools
import json

import click

from shared.catalog.pull_values import Pull
from shared.errors import InvalidArgument
from workers.cli.patience import patiently
from workers.cli.session import open_session
from workers.client import answer_ended
from workers.pulling.ending import cancel_pull


@click.command("cancel")
@click.argument("pull_ids", nargs=-1, required=True, metavar="PULL…")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def cancel_command(pull_ids: tuple[str, ...], *, as_json: bool) -> int:
    """End pulls that are on their way.

    A running download stops within two seconds, unless another pull wants the same layer; its
    bytes are kept. Needs no queue, only the database.

    Exit status: 0 when every pull is cancelled now, by this command or before; 1 when one had
    ended otherwise, which stays as it is; 2 when one does not exist.
    """
    status = 0
    ended: list[Pull] = []
    with open_session() as session:
        for pull_id in dict.fromkeys(pull_ids):
            try:
                cancel = functools.partial(cancel_pull, session.catalog, pull_id)
                ended.append(patiently(session.catalog, cancel))
            except InvalidArgument as error:
                click.echo(f"towline: {error}", err=True)
                status = 2
        if not answer_ended(session.app, session.catalog, ended):
            click.echo("The queue is away: whoever waits is told by the reconciler.", err=True)
    if as_json:
        rows = [{"pull_id": pull.id, "state": pull.state} for pull in ended]
        click.echo(json.dumps(rows, indent=2))
    else:
        for pull in ended:
            click.echo(_line(pull))
    return max([status, *(0 if pull.state == "cancelled" else 1 for pull in ended)])


def _line(pull: Pull) -> str:
    if pull.state == "cancelled":
        return f"{pull.id} cancelled"
    return f"{pull.id} {pull.state}: it had ended before, and stays as it is"

"""`towline cancel`: ends the row at once; a worker that is fetching notices within two seconds."""

import functools
import time
from collections.abc import Iterable, Sequence

import click

from shared.catalog.database.catalog import Catalog
from shared.catalog.model.pull_values import Pull
from shared.errors import InvalidArgument
from shared.pulls.cancelling import LATEST_ROW_SECONDS, cancel_pull, nothing_to_cancel
from shared.pulls.pull_ids import is_pull_id, no_such_pull
from workers.cli import documents
from workers.cli.options import json_option
from workers.cli.patience import retry_while_unavailable
from workers.cli.prefixes import begins_uuid, whole_id
from workers.cli.session import open_session
from workers.messages.client import answer_ended

_PAUSE_SECONDS = 0.2


@click.command("cancel")
@click.argument("pull_ids", nargs=-1, required=True, metavar="PULL…")
@json_option
def cancel_command(pull_ids: tuple[str, ...], *, as_json: bool) -> int:
    """Cancel pulls that have not ended.

    PULL is an id, or its first characters: at least 8, and enough to tell it from other ids.

    A running download stops within two seconds, unless another pull wants the same layer. Its
    bytes are kept. The command needs the database, but no queue. It waits a few seconds for a pull
    whose id is not known yet.

    Exit status: 0 if all pulls are cancelled, by this command or before; 1 if a pull had already
    completed or failed, and stays so; 2 if a pull does not exist.
    """
    distinct = dict.fromkeys(pull_ids)
    possible = [text for text in distinct if is_pull_id(text)]
    refused = [no_such_pull(text) for text in distinct if not is_pull_id(text)]
    with open_session() as session:
        ended, missing = _cancel_named(session.catalog, possible, refused)
        if not answer_ended(session.app, session.catalog, ended):
            click.echo(
                "The queue cannot be reached: the reconciler will answer the waiting callers.",
                err=True,
            )
    refused += map(nothing_to_cancel, missing)
    for error in refused:
        click.echo(f"towline: {error}", err=True)
    if as_json:
        documents.print_items(map(documents.pull, ended))
    else:
        for pull in ended:
            click.echo(_line(pull))
    others = any(pull.state != "cancelled" for pull in ended)
    return 2 if refused else int(others)


def _cancel_named(
    catalog: Catalog, texts: Sequence[str], refused: list[InvalidArgument]
) -> tuple[list[Pull], list[str]]:
    """Cancel the pulls with these ids or prefixes of ids. Returns the same as `_cancel`.

    The beginning of a UUID is always a prefix. Any other text may be the id of a pull that has no
    row yet: it counts as a prefix only if there is still no such row after the wait.
    """
    parts = _whole_ids(catalog, filter(begins_uuid, texts), refused)
    ids = [parts.get(text, text) for text in texts if text in parts or not begins_uuid(text)]
    ended, missing = _cancel(catalog, list(dict.fromkeys(ids)))
    late = _whole_ids(catalog, missing, refused)
    found = dict.fromkeys(pull_id for text, pull_id in late.items() if pull_id != text)
    more, _ = _cancel(catalog, list(found))
    return [*ended, *more], [text for text, pull_id in late.items() if pull_id == text]


def _whole_ids(
    catalog: Catalog, texts: Iterable[str], refused: list[InvalidArgument]
) -> dict[str, str]:
    """The whole id of each text. Adds an error to `refused` for each that is ambiguous."""
    found = {}
    for text in texts:
        try:
            found[text] = whole_id(catalog, text)
        except InvalidArgument as error:
            refused.append(error)
    return found


def _cancel(catalog: Catalog, pull_ids: list[str]) -> tuple[list[Pull], list[str]]:
    """Cancel each pull as soon as it has a row.

    Returns the pulls that have ended now, and the ids that still have no row after the wait.
    """
    ended: dict[str, Pull] = {}
    deadline = time.monotonic() + LATEST_ROW_SECONDS
    while True:
        for pull_id in pull_ids:
            if pull_id in ended:
                continue
            pull = retry_while_unavailable(
                catalog, functools.partial(cancel_pull, catalog, pull_id)
            )
            if pull is not None:
                ended[pull_id] = pull
        missing = [pull_id for pull_id in pull_ids if pull_id not in ended]
        if not missing or time.monotonic() > deadline:
            return [ended[pull_id] for pull_id in pull_ids if pull_id in ended], missing
        time.sleep(_PAUSE_SECONDS)


def _line(pull: Pull) -> str:
    if pull.state == "cancelled":
        return f"{pull.id} cancelled"
    return f"{pull.id} {pull.state}: it had already ended and was not changed"

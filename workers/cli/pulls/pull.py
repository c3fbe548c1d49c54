"""`towline pull`: records and sends pulls, then polls the catalog until each has ended."""

import functools
import shlex
import sys
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import click

from shared.catalog.database.catalog import Catalog
from shared.catalog.model.pull_values import Pull
from shared.catalog.pulls import lifecycle
from shared.errors import CatalogUnavailable, InvalidArgument
from shared.pulls.request import DEFAULT_PRIORITY, POLICIES, PullRequest
from shared.settings import Settings
from workers.cli import documents
from workers.cli.display.progress import Display, display_for, summary
from workers.cli.options import json_option
from workers.cli.patience import retry_while_unavailable
from workers.cli.session import Session, open_session
from workers.cli.watching import watch
from workers.embedded.joining import is_up, is_used
from workers.messages.client import record, send_recorded
from workers.queues.queue_access import check_queue


@click.command("pull")
@click.argument("references", nargs=-1, required=True, metavar="REFERENCE…")
@click.option("--platform", help="os/arch[/variant]. Default: that of the fleet.")
@click.option(
    "--priority",
    type=click.IntRange(0, 9),
    default=DEFAULT_PRIORITY,
    show_default=True,
    help="9 goes first.",
)
@click.option(
    "--policy",
    type=click.Choice(POLICIES),
    default="always",
    show_default=True,
    help="if-missing: do not ask the registry if the image is on the volume.",
)
@click.option(
    "--requested-by", metavar="NAME", help="Name of the requester: a label, not an identity."
)
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="May be repeated.")
@click.option(
    "--deadline",
    "deadline_seconds",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Fail if the pull takes longer; the bytes fetched so far are kept.",
)
@click.option("--detach", is_flag=True, help="Print the id of each pull, and do not wait.")
@json_option
@click.option("--quiet", is_flag=True, help="Print only the result, no progress.")
def pull_command(
    references: tuple[str, ...],
    labels: tuple[str, ...],
    *,
    detach: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> int:
    """Pull images onto the volume.

    Exit status: 0 if all pulls are complete; 1 if a pull failed.
    """
    requests = [_request(reference, labels, options) for reference in references]
    if detach and Settings.read().embedded and not is_up(Settings.read()):
        raise InvalidArgument(
            "--detach needs a fleet that keeps running after this command: run `towline up` in "
            "another terminal, or leave --detach out."
        )
    left_open: Sequence[Pull] = ()
    try:
        with open_session() as session:
            check_queue(session.app)
            queued = [
                _record(session.catalog, request, say=not (detach or quiet)) for request in requests
            ]
            if not send_recorded(session.app, queued):
                click.echo(
                    "The queue cannot be reached any more: the reconciler sends what was recorded.",
                    err=True,
                )
            if detach:
                return _detached(queued, as_json=as_json)
            display = display_for(sys.stderr if as_json else sys.stdout, quiet=quiet or as_json)
            try:
                ended = watch(session.catalog, [pull.id for pull in queued], display)
            except (KeyboardInterrupt, CatalogUnavailable):
                left_open = _still_open(session, queued)
                raise
            return _report(ended, display, as_json=as_json)
    finally:
        # Here the command has left the embedded stack, and can see whether others use it.
        if left_open:
            _say_how_to_go_on(Settings.read(), left_open)


def _request(reference: str, labels: tuple[str, ...], options: dict[str, Any]) -> PullRequest:
    pairs = [label.partition("=") for label in labels]
    if not all(separator and key for key, separator, _ in pairs):
        raise InvalidArgument("A label is written KEY=VALUE.")
    named = {key: value for key, _, value in pairs} or None
    return PullRequest.parse((), {"reference": reference, "labels": named, **options})


def _record(catalog: Catalog, request: PullRequest, *, say: bool) -> Pull:
    """Record a pull. Print its id at once, so the caller has it even if the command is killed."""
    pull = retry_while_unavailable(
        catalog, functools.partial(record, catalog, request, str(uuid4()))
    )
    if say:
        click.echo(f"pull {pull.id}: {pull.reference}", err=True)
    return pull


def _detached(queued: Sequence[Pull], *, as_json: bool) -> int:
    if as_json:
        documents.print_items(map(documents.pull, queued))
    else:
        for pull in queued:
            click.echo(pull.id)
    return 0


def _report(ended: Sequence[Pull], display: Display, *, as_json: bool) -> int:
    if as_json:
        documents.print_items(map(documents.pull, ended))
    else:
        for pull in ended:
            display.say(summary(pull))
    return max(0 if pull.state == "complete" else 1 for pull in ended)


def _say_how_to_go_on(settings: Settings, left_open: Sequence[Pull]) -> None:
    if settings.embedded and not is_used(settings):
        again = shlex.join(["towline", *sys.argv[1:]])
        click.echo(f"The bytes fetched so far are kept. To continue: {again}", err=True)
        return
    for pull in left_open:
        click.echo(f"The pull continues in the fleet. Watch it: towline watch {pull.id}", err=True)


def _still_open(session: Session, queued: Sequence[Pull]) -> list[Pull]:
    """The pulls that have not ended; all of them if the database cannot be reached."""
    try:
        with session.catalog.begin() as tx:
            now = [lifecycle.get(tx, pull.id) or pull for pull in queued]
    except CatalogUnavailable:
        return list(queued)
    return [pull for pull in now if not pull.has_ended]

"""`towline pause` and `towline resume`, for the fleet, a registry, or a requester."""

from collections.abc import Callable
from typing import Any

import click

from shared.catalog.admission import pauses
from shared.catalog.admission.pauses import Pause, subject_of
from shared.catalog.database.catalog import Catalog
from shared.catalog.reports import queue_position
from shared.errors import CatalogUnavailable, InvalidArgument, InvalidReference
from shared.oci.reference import Reference
from workers.cli import documents
from workers.cli.display.tables import print_table, shown_time
from workers.cli.options import json_option
from workers.cli.session import open_session

_WHAT_HAPPENS = (
    "no pull starts, running downloads stop within two seconds, and their bytes are kept"
)


def _scoped(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that both commands take."""
    for option in (
        json_option,
        click.option(
            "--requester", metavar="NAME", help="Pulls of this requester; '' for pulls without one."
        ),
        click.option("--registry", metavar="HOST", help="Pulls from this registry."),
    ):
        command = option(command)
    return command


@click.command("pause")
@_scoped
@click.option("--list", "only_list", is_flag=True, help="List what is paused, and change nothing.")
def pause_command(
    registry: str | None, requester: str | None, *, as_json: bool, only_list: bool
) -> None:
    """Pause the fleet, one registry or one requester.

    Until `towline resume`, no pull starts. Running downloads stop within two seconds, unless a pull
    that is not paused wants the same layer. Their bytes are kept. New pulls are recorded and wait.
    """
    scope = scope_of(registry, requester)
    with open_session() as session, session.catalog.begin() as tx:
        changed = not only_list and pauses.pause(tx, *scope)
        active = pauses.listing(tx)
    if as_json:
        fields = {} if only_list else {"changed": changed}
        documents.print_items(map(documents.pause, active), **fields)
    elif only_list:
        _print_list(active)
    else:
        is_now = "is paused" if changed else "was already paused"
        pause = next(pause for pause in active if (pause.scope, pause.name) == scope)
        click.echo(
            f"{_capital(pause.subject)} {is_now}: {_WHAT_HAPPENS}. "
            f"To end the pause: `{pause.command}`."
        )


@click.command("resume")
@_scoped
def resume_command(registry: str | None, requester: str | None, *, as_json: bool) -> None:
    """End the pause of the fleet, one registry or one requester.

    Downloads continue within seconds, from the bytes that are on the volume.
    """
    scope = scope_of(registry, requester)
    with open_session() as session:
        with session.catalog.begin() as tx:
            changed = pauses.resume(tx, *scope)
            active = pauses.listing(tx)
            reconciler = queue_position.leading_reconciler(tx)
        if changed:
            _go_on(session.catalog)
    if as_json:
        documents.print_items(map(documents.pause, active), changed=changed)
    else:
        is_now = "is resumed" if changed else "was not paused"
        click.echo(f"{_capital(subject_of(*scope))} {is_now}.")
        for pause in active:
            click.echo(f"Still paused: {pause.subject} (`{pause.command}`).")
    if changed and reconciler is None:
        click.echo(
            "No reconciler is running to send the pulls again: start `towline reconcile`.", err=True
        )


def _go_on(catalog: Catalog) -> None:
    """Release the waiting pulls. The pause has ended, so an outage here only delays them."""
    try:
        pauses.wake(catalog)
    except CatalogUnavailable:
        click.echo("The database is busy: some pulls continue only after up to a minute.", err=True)


def scope_of(registry: str | None, requester: str | None) -> tuple[str, str]:
    """The scope that the options name, and the name within it. Raises InvalidArgument."""
    if registry is not None and requester is not None:
        raise click.UsageError("--registry and --requester are two pauses: run the command twice.")
    if registry is not None:
        return "registry", _canonical(registry)
    if requester is not None:
        return "requester", requester
    return "fleet", ""


def _canonical(registry: str) -> str:
    """The registry's name as references have it: index.docker.io is docker.io."""
    try:
        parsed = Reference.parse(f"{registry}/x")
    except InvalidReference:
        parsed = None
    if parsed is None or parsed.repository not in {"x", "library/x"}:
        raise InvalidArgument(f"{registry!r} is not a registry: write a host such as ghcr.io.")
    return parsed.registry


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _print_list(active: list[Pause]) -> None:
    if not active:
        click.echo("Nothing is paused.")
        return
    print_table(
        ("paused", "since", "resume with"),
        [(pause.subject, shown_time(pause.paused_at), pause.command) for pause in active],
    )

"""`towline pause` and `towline resume`, for the fleet, a registry, or a requester."""

from collections.abc import Callable
from typing import Any, NamedTuple

import click

from shared.catalog.admission import pauses
from shared.catalog.admission.pauses import Pause
from shared.catalog.database.catalog import Catalog, Connection
from shared.catalog.reports import queue_position
from shared.errors import CatalogUnavailable, InvalidArgument, InvalidReference
from shared.oci.reference import Reference
from workers.cli import documents
from workers.cli.display.tables import print_table, shown_time
from workers.cli.options import json_option
from workers.cli.session import open_session
from workers.doctor.explanation import how_to_resume

_WHAT_HAPPENS = (
    "no pull starts, running downloads stop within two seconds, and their bytes are kept"
)


class Scope(NamedTuple):
    """What to pause: the fleet (an empty name), a registry, or a requester."""

    kind: str
    name: str

    def __str__(self) -> str:
        if self.kind == "fleet":
            return "the fleet"
        if not self.name:
            return "pulls without a requester"
        return f"the {self.kind} {self.name}"


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
        command = how_to_resume(
            next(pause for pause in active if (pause.scope, pause.name) == scope)
        )
        click.echo(f"{_sentence(scope)} {is_now}: {_WHAT_HAPPENS}. To end the pause: `{command}`.")


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
            has_no_leader = _has_no_leader(tx)
        if changed:
            _go_on(session.catalog)
    if as_json:
        documents.print_items(map(documents.pause, active), changed=changed)
    else:
        is_now = "is resumed" if changed else "was not paused"
        click.echo(f"{_sentence(scope)} {is_now}.")
        for pause in active:
            click.echo(
                f"Still paused: {Scope(pause.scope, pause.name)} (`{how_to_resume(pause)}`)."
            )
    if changed and has_no_leader:
        click.echo(
            "No reconciler is running to send the pulls again: start `towline reconcile`.", err=True
        )


def _go_on(catalog: Catalog) -> None:
    """Release the waiting pulls. The pause has ended, so an outage here only delays them."""
    try:
        pauses.wake(catalog)
    except CatalogUnavailable:
        click.echo("The database is busy: some pulls continue only after up to a minute.", err=True)


def scope_of(registry: str | None, requester: str | None) -> Scope:
    """The scope that the options name. Raises InvalidArgument."""
    if registry is not None and requester is not None:
        raise click.UsageError("--registry and --requester are two pauses: run the command twice.")
    if registry is not None:
        return Scope("registry", _canonical(registry))
    if requester is not None:
        return Scope("requester", requester)
    return Scope("fleet", "")


def _canonical(registry: str) -> str:
    """The registry's name as references have it: index.docker.io is docker.io."""
    try:
        parsed = Reference.parse(f"{registry}/x")
    except InvalidReference:
        parsed = None
    if parsed is None or parsed.repository not in {"x", "library/x"}:
        raise InvalidArgument(f"{registry!r} is not a registry: write a host such as ghcr.io.")
    return parsed.registry


def _sentence(scope: Scope) -> str:
    words = str(scope)
    return words[0].upper() + words[1:]


def _has_no_leader(tx: Connection) -> bool:
    leader = queue_position.reconciler_leader(tx)
    return leader is None or not leader.alive


def _print_list(active: list[Pause]) -> None:
    if not active:
        click.echo("Nothing is paused.")
        return
    print_table(
        ("paused", "since", "resume with"),
        [
            (str(Scope(pause.scope, pause.name)), shown_time(pause.paused_at), how_to_resume(pause))
            for pause in active
        ],
    )

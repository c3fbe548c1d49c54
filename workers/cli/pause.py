"""`towline pause` and `towline resume`: the fleet, a registry, or a requester."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import click

from shared.catalog import chains, pauses
from shared.catalog.database import Catalog, Connection
from shared.catalog.pauses import Pause
from shared.errors import CatalogUnavailable, InvalidArgument, InvalidReference
from shared.oci.reference import Reference
from workers.cli.session import open_session
from workers.cli.tables import print_table, shown_time
from workers.examining.explaining import how_to_resume

_WHAT_HAPPENS = (
    "nothing new starts; running downloads let go within two seconds, and their bytes are kept"
)


class Scope(NamedTuple):
    """What is paused: the fleet (an empty name), a registry, or a requester."""

    kind: str
    name: str

    def __str__(self) -> str:
        if self.kind == "fleet":
            return "the fleet"
        if not self.name:
            return "pulls that name no requester"
        return f"the {self.kind} {self.name}"


def _scoped(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that both commands take."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout."),
        click.option("--requester", metavar="NAME", help="Its pulls; '' for those that name none."),
        click.option("--registry", metavar="HOST", help="Pulls from this registry."),
    ):
        command = option(command)
    return command


@click.command("pause")
@_scoped
@click.option("--list", "only_list", is_flag=True, help="What is paused; changes nothing.")
def pause_command(
    registry: str | None, requester: str | None, *, as_json: bool, only_list: bool
) -> None:
    """Hold the fleet, or with an option one registry or requester, until `towline resume`.

    Nothing new starts; running downloads let go within two seconds, unless a pull that is not
    paused wants the same layer. Their bytes are kept, and new pulls are recorded and wait.
    """
    scope = scope_of(registry, requester)
    with open_session() as session, session.catalog.begin() as tx:
        changed = not only_list and pauses.pause(tx, *scope)
        standing = pauses.listing(tx)
    if as_json:
        _print_json(standing, None if only_list else changed)
    elif only_list:
        _print_list(standing)
    else:
        is_now = "is paused" if changed else "was paused already"
        command = how_to_resume(next(one for one in standing if (one.scope, one.name) == scope))
        click.echo(f"{_sentence(scope)} {is_now}: {_WHAT_HAPPENS}. `{command}` ends that.")


@click.command("resume")
@_scoped
def resume_command(registry: str | None, requester: str | None, *, as_json: bool) -> None:
    """Let the fleet, or with an option one registry or requester, go on.

    Everything continues from the bytes that are there, within seconds.
    """
    scope = scope_of(registry, requester)
    with open_session() as session:
        with session.catalog.begin() as tx:
            changed = pauses.resume(tx, *scope)
            standing = pauses.listing(tx)
            unattended = _is_unattended(tx)
        if changed:
            _go_on(session.catalog)
    if as_json:
        _print_json(standing, changed)
    else:
        goes_on = "goes on" if changed else "was not paused"
        click.echo(f"{_sentence(scope)} {goes_on}.")
        for one in standing:
            click.echo(f"Still paused: {Scope(one.scope, one.name)} (`{how_to_resume(one)}`).")
    if changed and unattended:
        click.echo("No reconciler is in office to send it: start `towline reconcile`.", err=True)


def _go_on(catalog: Catalog) -> None:
    """The pause is over, whatever comes of this."""
    try:
        pauses.go_on(catalog)
    except CatalogUnavailable:
        click.echo("The database is busy: some pulls go on within a minute only.", err=True)


def scope_of(registry: str | None, requester: str | None) -> Scope:
    """What the options name. Raises InvalidArgument."""
    if registry is not None and requester is not None:
        raise click.UsageError("--registry and --requester are two pauses: run the command twice.")
    if registry is not None:
        return Scope("registry", _canonical(registry))
    if requester is not None:
        return Scope("requester", requester)
    return Scope("fleet", "")


def _canonical(registry: str) -> str:
    """The name that references have it under: index.docker.io is docker.io."""
    try:
        parsed = Reference.parse(f"{registry}/x")
    except InvalidReference:
        parsed = None
    if parsed is None or parsed.repository not in {"x", "library/x"}:
        raise InvalidArgument(f"{registry!r} is no registry: write a host such as ghcr.io.")
    return parsed.registry


def _sentence(scope: Scope) -> str:
    words = str(scope)
    return words[0].upper() + words[1:]


def _is_unattended(tx: Connection) -> bool:
    office = chains.office(tx)
    return office is None or not office.alive


def _print_json(standing: list[Pause], changed: bool | None) -> None:
    rows = [
        {"scope": one.scope, "name": one.name, "paused_at": one.paused_at.isoformat()}
        for one in standing
    ]
    document = {"paused": rows} if changed is None else {"changed": changed, "paused": rows}
    click.echo(json.dumps(document, indent=2))


def _print_list(standing: list[Pause]) -> None:
    if not standing:
        click.echo("Nothing is paused.")
        return
    print_table(
        ("paused", "since", "ends with"),
        [
            (str(Scope(one.scope, one.name)), shown_time(one.paused_at), how_to_resume(one))
            for one in standing
        ],
    )

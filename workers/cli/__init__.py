"""The command line `towline`. Each command stands in the module of its noun.

    pull.py, status.py, watch.py       asking for images, and seeing them come
    explain.py, cancel.py, retry.py, pause.py, doctor.py      for whoever operates a fleet
    images.py, history.py              what is here
    migrate.py, worker.py, reconcile.py, up.py     what runs

    session.py, patience.py      the way to the fleet, and to one that is away for a moment
    display.py, fleet_display.py   what moves on a terminal
    watching.py  waiting for pulls          tables.py, branches.py, waiting.py   what stands still

Exit status: 0 done; 1 a pull failed; 2 wrong usage or settings; 3 the fleet's own database or
queue cannot be reached; 130 interrupted.
"""

import sys
from importlib import import_module

import click

from shared.errors import (
    CatalogUnavailable,
    InvalidArgument,
    InvalidPlatform,
    InvalidReference,
    TowlineError,
)
from workers.client import QueueUnavailable

FAILED, WRONG_USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130

# The module of each command, imported when the command is used: `--help` need not wait for SQL.
_MODULE_OF = {
    "pull": "workers.cli.pull",
    "status": "workers.cli.status",
    "watch": "workers.cli.watch",
    "explain": "workers.cli.explain",
    "cancel": "workers.cli.cancel",
    "retry": "workers.cli.retry",
    "pause": "workers.cli.pause",
    "resume": "workers.cli.pause",
    "ls": "workers.cli.images",
    "inspect": "workers.cli.images",
    "history": "workers.cli.history",
    "doctor": "workers.cli.doctor",
    "migrate": "workers.cli.migrate",
    "worker": "workers.cli.worker",
    "reconcile": "workers.cli.reconcile",
    "up": "workers.cli.up",
}


class _Commands(click.Group):
    """Click's own pattern for commands that load when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULE_OF)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULE_OF:
            return None
        command: click.Command = getattr(import_module(_MODULE_OF[cmd_name]), f"{cmd_name}_command")
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="towline")
def cli() -> None:
    """Bring container images onto a shared volume: once, verified, resumable."""


def main() -> None:
    """Run the command line; every error is one sentence on stderr and an exit status."""
    sys.exit(_status())


def _status() -> int:
    try:
        return cli.main(standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except Exception as error:
        return _told(error)


def _told(error: Exception) -> int:
    """The status for an error that has a sentence. Raises any other."""
    if isinstance(error, InvalidArgument | InvalidReference | InvalidPlatform):
        return _say(error, WRONG_USAGE)
    if isinstance(error, CatalogUnavailable | QueueUnavailable):
        return _say(error, UNREACHABLE)
    if isinstance(error, TowlineError):
        return _say(error, FAILED)
    # Loaded only now: most errors are not PostgreSQL's.
    refused = import_module("shared.catalog.refusals").refusal(error)
    if refused is None:
        raise error
    return _say(refused, WRONG_USAGE)


def _say(error: Exception | str, status: int) -> int:
    click.echo(f"towline: {error}", err=True)
    return status

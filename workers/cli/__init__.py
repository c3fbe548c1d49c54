"""The command line `towline`.

Commands that ask for images, and show their progress:

    pull    `towline pull`
    status  `towline status`
    watch   `towline watch`

Commands for operators:

    explain  `towline explain`
    cancel   `towline cancel`
    retry    `towline retry`
    pause    `towline pause` and `towline resume`
    doctor   `towline doctor`

Commands that list what is on the volume:

    images   `towline ls` and `towline inspect`
    history  `towline history`

Commands that prepare and run a fleet:

    migrate    `towline migrate`
    worker     `towline worker`
    reconcile  `towline reconcile`
    up         `towline up`

What the commands share:

    session         opens the catalog and the queue, of a fleet or of the embedded stack
    patience        waits for a database that is unreachable for a moment
    watching        polls pulls until they end
    display         shows pulls that run: bars on a terminal, lines elsewhere
    fleet_display   shows all open pulls: a live table, lines, or documents
    tables          prints lists: tables, or one JSON document
    fitting         fits a table to the width of a terminal
    prefixes        finds a pull by the beginning of its id
    branches        prints nested lines: a tree on a terminal
    waiting         `waiting_for` as one line of text

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
from workers.queues.queue_access import QueueUnavailable

FAILED, WRONG_USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130

# The module of each command, imported only when the command is used: `--help` need not wait until
# SQLAlchemy and Celery are imported.
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
    """Loads the module of a command when it is needed (click's pattern for lazy loading)."""

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
    """Pull container images onto a shared volume: verified, resumable, each layer fetched once."""


def main() -> None:
    """Run the command line and exit. Every expected error is one sentence on stderr."""
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
        return _report(error)


def _report(error: Exception) -> int:
    """Print an expected error and return its exit status. Raises any other error again."""
    if isinstance(error, InvalidArgument | InvalidReference | InvalidPlatform):
        return _say(error, WRONG_USAGE)
    if isinstance(error, CatalogUnavailable | QueueUnavailable):
        return _say(error, UNREACHABLE)
    if isinstance(error, TowlineError):
        return _say(error, FAILED)
    # Imported only here: most commands end without an error of PostgreSQL.
    refused = import_module("shared.catalog.database.refusals").explain_refusal(error)
    if refused is None:
        raise error
    return _say(refused, WRONG_USAGE)


def _say(error: Exception | str, status: int) -> int:
    click.echo(f"towline: {error}", err=True)
    return status

"""The command line `towline`.

Each command is a function in a module of its own, which is imported only when it is used:

    pulls   pull, status, watch, explain, cancel, retry
    images  ls, inspect, history
    fleet   doctor, pause and resume, migrate, worker, reconcile, up

What they share:

    session    opens the catalog and the queue, of a fleet or of the embedded stack
    patience   waits for a database that is unreachable for a moment
    watching   polls pulls until they end
    prefixes   finds a pull by the beginning of its id
    options    options that several commands take
    display    how things are shown to people
    documents  what `--json` prints

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

FAILED, WRONG_USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130

# The module of each command and its first sentence, by heading in `--help`. With this table neither
# a command nor `--help` imports what only another command needs: importing SQLAlchemy and Celery
# takes more than a second.
_ROOMS = {
    "Pulls": {
        "pull": ("pulls.pull", "Pull images onto the volume."),
        "status": ("pulls.status", "List the newest pulls, or show one pull with its layers."),
        "watch": ("pulls.watch", "Watch a pull until it ends, or all open pulls until Ctrl-C."),
        "explain": (
            "pulls.explain",
            "Say why a pull waits, until when, and what would unblock it.",
        ),
        "cancel": ("pulls.cancel", "Cancel pulls that have not ended."),
        "retry": ("pulls.retry", "Retry pulls that failed or were cancelled."),
    },
    "Images": {
        "ls": ("images.ls", "List the images on the volume, by name."),
        "inspect": (
            "images.inspect",
            "Show an image: its manifest, and its layers with their files.",
        ),
        "history": ("images.history", "List the manifests that a tag has named, newest first."),
    },
    "Fleet": {
        "doctor": ("fleet.doctor", "Check the fleet."),
        "pause": ("fleet.pause", "Pause the fleet, one registry or one requester."),
        "resume": ("fleet.pause", "End the pause of the fleet, one registry or one requester."),
        "migrate": ("fleet.migrate", "Migrate the database, and bind the volume to it."),
        "worker": ("fleet.worker", "Run a worker of the fleet."),
        "reconcile": ("fleet.reconcile", "Run the reconciler until SIGTERM."),
        "up": ("fleet.up", "Run the embedded stack until Ctrl-C."),
    },
}
_MODULE_OF = {name: module for room in _ROOMS.values() for name, (module, _) in room.items()}


class _Commands(click.Group):
    """Loads the module of a command when it is needed (click's pattern for lazy loading)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_MODULE_OF)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _MODULE_OF:
            return None
        module = import_module(f"workers.cli.{_MODULE_OF[cmd_name]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, room in _ROOMS.items():
            with formatter.section(title):
                formatter.write_dl([(name, sentence) for name, (_, sentence) in room.items()])


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
    # Imported only here: most commands end without an error.
    unreachable = import_module("workers.queues.queue_access").QueueUnavailable
    if isinstance(error, CatalogUnavailable | unreachable):
        return _say(error, UNREACHABLE)
    if isinstance(error, TowlineError):
        return _say(error, FAILED)
    refused = import_module("shared.catalog.database.refusals").explain_refusal(error)
    if refused is None:
        raise error
    return _say(refused, WRONG_USAGE)


def _say(error: Exception | str, status: int) -> int:
    click.echo(f"towline: {error}", err=True)
    return status

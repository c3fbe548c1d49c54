"""The command line `towline`. Each command stands in the module of its noun.

Exit status: 0 done; 1 a pull failed; 2 wrong usage or settings; 3 the fleet's own database or
queue cannot be reached; 130 interrupted.
"""

import sys

import click

from shared.errors import (
    CatalogUnavailable,
    InvalidArgument,
    InvalidPlatform,
    InvalidReference,
    TowlineError,
)
from workers.cli.images import inspect_command, ls_command
from workers.cli.operations import migrate_command, up_command
from workers.cli.pull import pull_command
from workers.cli.status import status_command
from workers.client import QueueUnavailable

FAILED, WRONG_USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="towline")
def cli() -> None:
    """Bring container images onto a shared volume: once, verified, resumable."""


for command in (
    pull_command,
    status_command,
    ls_command,
    inspect_command,
    migrate_command,
    up_command,
):
    cli.add_command(command)


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
    except (InvalidArgument, InvalidReference, InvalidPlatform) as error:
        return _say(error, WRONG_USAGE)
    except (CatalogUnavailable, QueueUnavailable) as error:
        return _say(error, UNREACHABLE)
    except TowlineError as error:
        return _say(error, FAILED)


def _say(error: Exception, status: int) -> int:
    click.echo(f"towline: {error}", err=True)
    return status

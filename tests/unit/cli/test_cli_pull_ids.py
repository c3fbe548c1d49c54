"""Ids of pulls as they come from a shell: any bytes."""

import click
import pytest

from shared.errors import InvalidArgument
from workers.cli.cancel import cancel_command
from workers.cli.explain import explain_command
from workers.cli.retry import retry_command
from workers.cli.status import status_command
from workers.cli.watch import watch_command

# What Python makes of the byte FF on the command line.
NO_UTF_8 = b"\xff".decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "command", [cancel_command, explain_command, retry_command, status_command, watch_command]
)
@pytest.mark.parametrize("given", [NO_UTF_8, "x" * 156])
def test_what_no_row_can_have_as_its_id_is_no_pull(command: click.Command, given: str) -> None:
    with pytest.raises(InvalidArgument, match="There is no pull") as caught:
        command.make_context("towline", [given])
    assert caught.value.message.isprintable()

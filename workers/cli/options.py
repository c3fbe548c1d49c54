"""Options that several commands take."""

import click

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")

limit_option = click.option(
    "--limit",
    default=100,
    show_default=True,
    type=click.IntRange(0),
    help="Show at most this many; 0 for all.",
)

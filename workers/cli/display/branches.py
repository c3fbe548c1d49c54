"""Nested lines: printed as a tree on a terminal, as indented plain lines in a pipe."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree


@dataclass(frozen=True, slots=True)
class Branch:
    """A line, and the lines nested below it."""

    line: Text
    below: Sequence["Branch"] = field(default_factory=list)


def print_branch(top: Branch) -> None:
    """Print to stdout, as a tree if that is a terminal."""
    if sys.stdout.isatty():
        Console(highlight=False).print(_tree(top))
        return
    for line in _lines(top, ""):
        click.echo(line)


def _tree(branch: Branch) -> Tree:
    tree = Tree(branch.line, guide_style="dim")
    for child in branch.below:
        tree.children.append(_tree(child))
    return tree


def _lines(branch: Branch, indent: str) -> Iterator[str]:
    yield indent + branch.line.plain
    for child in branch.below:
        yield from _lines(child, indent + "  ")

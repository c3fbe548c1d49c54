"""Rounds in which contenders take turns (A B A B …), their medians, and goals."""

import argparse
import os
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Times = dict[str, list[float]]


def options_of(module: str, rounds: int = 5) -> argparse.ArgumentParser:
    """A parser with the options of every measurement, described by the measurement's docstring."""
    parser = argparse.ArgumentParser(
        description=module, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=rounds, help=f"default: {rounds}")
    parser.add_argument("--plots", type=Path, help="a directory for the plot, a PNG")
    return parser


def take_turns(rounds: int, contenders: Mapping[str, Callable[[int], float]]) -> Times:
    """Run each contender once per round, in order, with the number of the round, from 0."""
    times: Times = {name: [] for name in contenders}
    for number in range(rounds):
        for name, contender in contenders.items():
            # Write dirty pages now, so that the next contender does not pay for them.
            os.sync()
            times[name].append(contender(number))
            print(f"  round {number + 1}: {name}: {times[name][-1]:.2f}", file=sys.stderr)
    return times


def medians(times: Times) -> dict[str, float]:
    """The median of each contender."""
    return {name: statistics.median(taken) for name, taken in times.items()}


def print_times(times: Times, baselines: Sequence[str]) -> None:
    """Print the median, minimum and maximum seconds of each, and its median divided by each
    baseline's.
    """
    middle = medians(times)
    rows = [
        [
            name,
            f"{middle[name]:.2f}",
            f"{min(taken):.2f}",
            f"{max(taken):.2f}",
            *(f"{middle[name] / middle[baseline]:.2f}" for baseline in baselines),
        ]
        for name, taken in times.items()
    ]
    print_table(["", "median s", "min", "max", *(f"÷ {baseline}" for baseline in baselines)], rows)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print as Markdown."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    print("\n".join(f"| {' | '.join(line)} |" for line in lines), flush=True)


@dataclass(frozen=True)
class Goal:
    """A bound of a figure, at most or at least."""

    what: str
    figure: float
    bound: float
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound


def judge(goals: Sequence[Goal]) -> int:
    """Print each goal and whether it was met. Exit status 1 if one was missed."""
    print()
    for goal in goals:
        sign = "≥" if goal.at_least else "≤"
        outcome = "met" if goal.met else "MISSED"
        print(f"{outcome}: {goal.what}: {goal.figure:.2f} ({sign} {goal.bound:g})")
    return int(not all(goal.met for goal in goals))

"""Plots of measurements, as PNG: `uv run --group bench …`, which installs matplotlib."""

import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def plot_rounds(
    directory: Path | None, name: str, title: str, unit: str, values: Mapping[str, Sequence[float]]
) -> None:
    """A row for each contender: a dot per round, and a bar up to the median."""
    axes = _axes(directory, title)
    if axes is None:
        return
    for row, taken in enumerate(values.values()):
        middle = statistics.median(taken)
        axes.barh(row, middle, color="#9ecae1", height=0.6)
        axes.plot(taken, [row] * len(taken), "o", color="#08519c", markersize=4)
        axes.annotate(f" {middle:,.4g}", (max(taken), row), va="center")
    axes.set_yticks(range(len(values)), list(values))
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.margins(x=0.1)
    axes.set_xlim(left=0)
    _save(axes, directory, name)


def plot_growth(
    directory: Path | None,
    name: str,
    title: str,
    units: tuple[str, str],
    lines: Mapping[str, Mapping[float, Sequence[float]]],
    scale: str = "log",
) -> None:
    """A line for each contender through its medians; `scale` is that of the horizontal axis."""
    axes = _axes(directory, title)
    if axes is None:
        return
    for label, points in lines.items():
        middles = [statistics.median(taken) for taken in points.values()]
        (drawn,) = axes.plot(list(points), middles, label=label)
        for at, taken in points.items():
            axes.plot([at] * len(taken), taken, "o", color=drawn.get_color(), markersize=4)
    axes.set_xscale(scale)
    most = max(max(taken) for points in lines.values() for taken in points.values())
    axes.set_ylim(0, 1.2 * most)
    axes.set_xlabel(units[0])
    axes.set_ylabel(units[1])
    axes.figure.legend(loc="outside lower center", ncols=len(lines))
    _save(axes, directory, name)


def _axes(directory: Path | None, title: str) -> Any:
    """None if no plot is wanted, or if matplotlib is missing."""
    if directory is None:
        return None
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - in another dependency group
    except ImportError:
        print("No plot, since matplotlib is missing: uv run --group bench …", file=sys.stderr)
        return None
    axes = Figure(figsize=(8, 4), layout="constrained").subplots()
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _save(axes: Any, directory: Path | None, name: str) -> None:
    assert directory is not None
    directory.mkdir(parents=True, exist_ok=True)
    axes.figure.savefig(directory / f"{name}.png", dpi=110)

"""One plot of agreement: every method, its twins, and the maps that know nothing of the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.record.schema import Figure
from reports.figures.canvas import ACCENT, MARKERS, SERIES, SOFT, TEXT_WIDTH, canvas, place
from reports.words import shorten

ROW, DENSE, FEW = 5.6, 4.4, 10
TOP, BOTTOM, GAP = 7.0, 10.0, 6.0
LONGEST = 28
COLUMNS = 6
GRID = "#e3e6e9"


@dataclass(frozen=True)
class Line:
    """One row of the plot.

    Attributes
    ----------
    name : str
    figure : Figure
        What the map itself reaches.
    twins : mapping of str to Figure
        The same method on twins of the model: name → what it reaches.
    differences : mapping of str to Figure
        Paired, to the references that decide: name → method minus reference.
    single : sequence of float
        Single cases.
    null : bool
        Whether the map knows nothing of the model.
    """

    name: str
    figure: Figure
    twins: Mapping[str, Figure] = field(default_factory=dict)
    differences: Mapping[str, Figure] = field(default_factory=dict)
    single: Sequence[float] = ()
    null: bool = False


def beside(path: Path, lines: Sequence[Line], measure: str, chance: float | None) -> None:
    """Draw what every map reaches (left) and each method's paired differences (right).

    Parameters
    ----------
    path : Path
        An `.svg`.
    lines : sequence of Line
        From top to bottom: methods first.
    measure : str
        What is measured, below the left axis.
    chance : float or None
        Where a map without any knowledge lies.
    """
    names = list(dict.fromkeys(n for line in lines for n in (*line.twins, *line.differences)))
    with_differences = any(line.differences for line in lines)
    label = 6 + 1.5 * max(len(shorten(line.name, LONGEST)) for line in lines)
    body = (ROW if len(lines) <= FEW else DENSE) * len(lines) + 1
    width = TEXT_WIDTH - label - 2
    left = width if not with_differences else 0.56 * (width - GAP)
    legend = 3.4 * -(-(len(names) + 3) // COLUMNS)
    with canvas(path, TEXT_WIDTH, legend + TOP + body + BOTTOM) as figure:
        axes = place(figure, label, legend + TOP, left, body)
        _reached(axes, lines, names, chance)
        axes.set_xlabel(measure)
        axes.set_title("What each map reaches", loc="left", pad=3, fontweight="bold")
        if with_differences:
            axes = place(figure, label + left + GAP, legend + TOP, width - GAP - left, body)
            _differences(axes, lines, names)
            axes.set_xlabel("method minus reference, case by case")
            axes.set_title("What has to lie right of 0", loc="left", pad=3, fontweight="bold")
        _legend(figure, lines, names)


def _frame(axes: Any, lines: Sequence[Line], zero: float | None) -> None:
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.grid(axis="x", color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    if zero is not None:
        axes.axvline(zero, color=SOFT, linewidth=0.8, linestyle=(0, (4, 2)))
    for y, line in enumerate(lines):
        if line.null:
            axes.axhspan(y - 0.5, y + 0.5, color="#f3f4f6", zorder=0, linewidth=0)
        elif y:
            axes.axhline(y - 0.5, color="#d5d9dd", linewidth=0.4)
    axes.margins(x=0.05)
    axes.locator_params(axis="x", nbins=5)


def _reached(axes: Any, lines: Sequence[Line], names: Sequence[str], chance: float | None) -> None:
    _frame(axes, lines, chance)
    axes.set_yticks(range(len(lines)), [shorten(line.name, LONGEST) for line in lines])
    for y, line in enumerate(lines):
        if line.null:
            _dot(axes, line.figure, y, SOFT, "X", filled=True)
            continue
        slots = _slots(len(line.twins) + 1)
        if line.single:
            axes.plot(
                line.single, [y + slots[0]] * len(line.single), "|",
                color=ACCENT, alpha=0.35, markersize=5, markeredgewidth=0.5,
            )  # fmt: skip
        _dot(axes, line.figure, y + slots[0], ACCENT, "o", filled=True)
        for slot, (name, value) in zip(slots[1:], line.twins.items(), strict=True):
            _dot(axes, value, y + slot, *_look(name, names), filled=False)


def _differences(axes: Any, lines: Sequence[Line], names: Sequence[str]) -> None:
    _frame(axes, lines, 0.0)
    axes.set_yticks([])
    for y, line in enumerate(lines):
        slots = _slots(len(line.differences))
        for slot, (name, value) in zip(slots, line.differences.items(), strict=True):
            _dot(axes, value, y + slot, *_look(name, names), filled=False)


def _slots(count: int) -> list[float]:
    """Heights within a row, evenly about its middle."""
    step = min(0.24, 0.7 / max(count, 1))
    return [(i - (count - 1) / 2) * step for i in range(count)]


def _look(name: str, names: Sequence[str]) -> tuple[str, str]:
    index = 1 + names.index(name)
    return SERIES[index % len(SERIES)], MARKERS[index % len(MARKERS)]


def _dot(axes: Any, figure: Figure, y: float, colour: str, marker: str, *, filled: bool) -> None:
    if figure.value is None:
        return
    if figure.low is not None and figure.high is not None:
        axes.plot([figure.low, figure.high], [y, y], color=colour, linewidth=1.5 if filled else 1.0)
    axes.plot(
        [figure.value], [y], marker,
        color=colour, markersize=4.4 if filled else 3.6, markeredgewidth=0.9,
        markerfacecolor=colour if filled else "white",
    )  # fmt: skip


def _legend(figure: Any, lines: Sequence[Line], names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=ACCENT, marker="o", markersize=4.4, linewidth=1.5, label="the model’s map")
    ]
    if any(line.single for line in lines):
        handles.append(
            Line2D([], [], color=ACCENT, marker="|", linestyle="none", markersize=5, label="single cases")
        )
    if any(line.null for line in lines):
        handles.append(
            Line2D([], [], color=SOFT, marker="X", markersize=4.4, linewidth=1.5, label="asks no model")
        )
    for name in names:
        colour, marker = _look(name, names)
        handles.append(
            Line2D([], [], color=colour, marker=marker, markersize=3.6, markerfacecolor="white",
                   linewidth=1.0, label=shorten(name, 30))
        )  # fmt: skip
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 1),
        ncols=min(len(handles), COLUMNS),
        borderaxespad=0.1,
        borderpad=0.2,
        handlelength=1.8,
        columnspacing=1.1,
    )

"""Free-response curves: lesions found against false alarms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.figures.canvas import LINES, MARKERS, SERIES, SOFT, TEXT_WIDTH, canvas, place
from reports.words import shorten

HEIGHT, GAP, LEFT = 42.0, 6.0, 12.0
PER_ROW = 4
TOPS = (0.05, 0.1, 0.2, 0.4, 1.0)
"""Ends of the axis of sensitivity: the same in every panel, and no larger than needed."""


@dataclass(frozen=True)
class Curve:
    """One line: false alarms per image (ascending), sensitivity (0–1), and whether it knows no model."""

    rates: Sequence[float]
    sensitivity: Sequence[float]
    null: bool = False


def free_response(path: Path, panels: Mapping[str, Mapping[str, Curve]]) -> None:
    """Draw one panel a lesion type, one line a map.

    Parameters
    ----------
    path : Path
        An `.svg`.
    panels : mapping of str to mapping of str to Curve
        Title → name → curve.
    """
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    columns = min(PER_ROW, len(panels))
    width = (TEXT_WIDTH - LEFT - GAP * (columns - 1) - 2) / columns
    width = min(width, 70.0)
    rows = -(-len(panels) // columns)
    legend = 3 + 3.8 * -(-len(names) // 4)
    highest = max((y for lines in panels.values() for c in lines.values() for y in c.sensitivity), default=1)
    top = next(share for share in TOPS if share >= min(highest, 1))
    with canvas(path, TEXT_WIDTH, legend + rows * (HEIGHT + 19)) as figure:
        for index, (title, lines) in enumerate(panels.items()):
            column, row = index % columns, index // columns
            axes = place(
                figure, LEFT + column * (width + GAP), legend + 6 + row * (HEIGHT + 19), width, HEIGHT
            )
            _panel(axes, title, lines, names, top, first=column == 0)
        _legend(figure, names, panels)


def _style(name: str, names: Sequence[str], *, null: bool) -> dict[str, Any]:
    index = names.index(name)
    if null:
        return {"color": SOFT, "linestyle": LINES[2], "marker": "x", "markersize": 3, "linewidth": 1}
    return {
        "color": SERIES[index % len(SERIES)],
        "linestyle": "solid",
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 3,
        "linewidth": 1.2,
    }


def _panel(
    axes: Any, title: str, lines: Mapping[str, Curve], names: Sequence[str], top: float, *, first: bool
) -> None:
    axes.set_title(title, loc="left", pad=3, fontweight="bold")
    axes.set_xscale("log", base=2)
    ticks = (0.125, 0.5, 2, 8)
    axes.set_xticks(ticks, ["⅛", "½", "2", "8"])
    axes.minorticks_off()
    axes.set_ylim(-0.02 * top, 1.02 * top)
    shares = [top * quarter / 4 for quarter in range(5)]
    axes.set_yticks(shares, [f"{100 * share:g} %" for share in shares] if first else [])
    axes.grid(color="#e3e6e9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlabel("false alarms per image")
    for name, curve in lines.items():
        axes.plot(curve.rates, curve.sensitivity, **_style(name, names, null=curve.null))


def _legend(figure: Any, names: Sequence[str], panels: Mapping[str, Mapping[str, Curve]]) -> None:
    from matplotlib.lines import Line2D

    nulls = {name for lines in panels.values() for name, curve in lines.items() if curve.null}
    handles = [
        Line2D([], [], label=shorten(name, 34), **_style(name, names, null=name in nulls)) for name in names
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 1),
        ncols=4,
        borderaxespad=0.1,
        borderpad=0.2,
        handlelength=2.4,
        columnspacing=1.4,
    )

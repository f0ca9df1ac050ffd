"""Charts of a report: numbers with intervals beside their nulls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.record.schema import Figure
from reports.figures.canvas import ACCENT, MARKERS, SERIES, SOFT, TEXT_WIDTH, canvas, place
from reports.words import shorten

ROW = 5.2
LEGEND_COLUMNS = 5


@dataclass(frozen=True)
class Row:
    """One row of a chart.

    Attributes
    ----------
    name : str
    figure : Figure
        Dot and interval.
    others : mapping of str to Figure
        Nulls or further series: name → number, each with a marker of its own.
    single : sequence of float
        Single cases, drawn faintly.
    role : str
        `expected` and `control` rows get a filled and an open bar.
    """

    name: str
    figure: Figure
    others: Mapping[str, Figure] = field(default_factory=dict)
    single: Sequence[float] = ()
    role: str = ""


@dataclass(frozen=True)
class Panel:
    """One measure over all rows.

    Attributes
    ----------
    title : str
    rows : sequence of Row
    zero : float or None
        Where to draw a reference line.
    """

    title: str
    rows: Sequence[Row]
    zero: float | None = None


def intervals(path: Path, panels: Sequence[Panel], main: str, per_row: int = 5) -> None:
    """Draw dots with intervals, one panel a measure, the nulls in the same rows.

    Parameters
    ----------
    path : Path
        An `.svg`.
    panels : sequence of Panel
        All with the same row names.
    main : str
        What the filled dots are, for the legend.
    """
    names = [row.name for row in panels[0].rows]
    others = list(dict.fromkeys(n for p in panels for r in p.rows for n in r.others))
    step = ROW + 2.1 * len(others)
    label = 6 + 1.32 * max(len(shorten(n, 26)) for n in names)
    per_row = min(per_row, len(panels))
    width = (TEXT_WIDTH - label - 4 * (per_row - 1) - 3) / per_row
    body = step * len(names) + 2
    lines = -(-len(panels) // per_row)
    legend = 2 + 3.6 * -(-(len(others) + 2) // LEGEND_COLUMNS)
    total = legend + lines * (body + 14)
    with canvas(path, TEXT_WIDTH, total) as figure:
        for index, panel in enumerate(panels):
            column, line = index % per_row, index // per_row
            axes = place(figure, label + column * (width + 4), legend + 7 + line * (body + 14), width, body)
            _panel(axes, panel, others)
            axes.set_yticks(range(len(names)), [shorten(n, 26) for n in names] if column == 0 else [])
        _legend(figure, main, others, single=any(r.single for p in panels for r in p.rows))


def _panel(axes: Any, panel: Panel, others: Sequence[str]) -> None:
    axes.set_title(panel.title, loc="left", pad=3, fontweight="bold", fontsize=6.8)
    axes.set_ylim(len(panel.rows) - 0.5, -0.5)
    axes.grid(axis="x", color="#e3e6e9", linewidth=0.5)
    axes.set_axisbelow(True)
    if panel.zero is not None:
        axes.axvline(panel.zero, color=SOFT, linewidth=0.8, linestyle=(0, (4, 2)))
    slots = len(others) + 1
    height = 0.72 / slots if slots > 1 else 0.0
    for y, row in enumerate(panel.rows):
        if y:
            axes.axhline(y - 0.5, color="#d5d9dd", linewidth=0.4)
        top = y - 0.36 + height / 2 if slots > 1 else y
        if row.single:
            axes.plot(
                row.single,
                [top] * len(row.single),
                "|",
                color=ACCENT,
                alpha=0.35,
                markersize=4,
                markeredgewidth=0.5,
            )
        _dot(axes, row.figure, top, ACCENT, "o", filled=True)
        for index, name in enumerate(others):
            if name in row.others:
                colour = SERIES[(index + 1) % len(SERIES)]
                _dot(
                    axes,
                    row.others[name],
                    top + (index + 1) * height,
                    colour,
                    MARKERS[(index + 1) % len(MARKERS)],
                    filled=False,
                )
    axes.margins(x=0.06)
    axes.locator_params(axis="x", nbins=3)


def _dot(axes: Any, figure: Figure, y: float, colour: str, marker: str, *, filled: bool) -> None:
    if figure.value is None:
        return
    if figure.low is not None and figure.high is not None:
        axes.plot(
            [figure.low, figure.high],
            [y, y],
            color=colour,
            linewidth=1.6 if filled else 0.9,
            solid_capstyle="butt",
        )
    axes.plot(
        [figure.value],
        [y],
        marker,
        color=colour,
        markersize=4.2 if filled else 3.4,
        markerfacecolor=colour if filled else "white",
        markeredgewidth=0.9,
    )


def _legend(figure: Any, main: str, others: Sequence[str], *, single: bool) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=ACCENT, marker="o", markersize=4.2, linewidth=1.6, label=main)]
    for index, name in enumerate(others):
        handles.append(
            Line2D(
                [],
                [],
                color=SERIES[(index + 1) % len(SERIES)],
                marker=MARKERS[(index + 1) % len(MARKERS)],
                markersize=3.4,
                markerfacecolor="white",
                linewidth=0.9,
                label=shorten(name, 30),
            )
        )
    if single:
        handles.append(
            Line2D(
                [],
                [],
                color=ACCENT,
                alpha=0.5,
                marker="|",
                linestyle="none",
                markersize=4,
                label="single cases",
            )
        )
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 1),
        ncols=min(len(handles), LEGEND_COLUMNS),
        borderaxespad=0.1,
        borderpad=0.2,
        handlelength=2,
        columnspacing=1.4,
    )


def regions(path: Path, panels: Sequence[tuple[str, Sequence[Row]]], reference: float) -> None:
    """Draw relevance density per region as bars, one panel a method.

    Expected regions have filled bars, negative controls hatched ones, others light ones.

    Parameters
    ----------
    path : Path
        An `.svg`.
    panels : sequence of (method, rows)
    reference : float
        Density of no preference.
    """
    from matplotlib.patches import Patch

    per_row = min(2, len(panels))
    label = 6 + 1.18 * max(len(shorten(r.name, 30)) for _, rows in panels for r in rows)
    cell = (TEXT_WIDTH - 5 * (per_row - 1)) / per_row
    lines = [panels[i : i + per_row] for i in range(0, len(panels), per_row)]
    heights = [4.0 * max(len(rows) for _, rows in line) + 2 for line in lines]
    total = 7 + sum(heights) + 14 * len(lines)
    styles: dict[str, tuple[str, dict[str, Any]]] = {
        "expected": ("expected for the disease", {"color": ACCENT}),
        "control": (
            "negative control",
            {"facecolor": "white", "edgecolor": "#98281b", "hatch": "/////", "linewidth": 0.7},
        ),
        "": ("other region", {"color": "#c3cbd3"}),
    }
    with canvas(path, TEXT_WIDTH, total) as figure:
        top = 12.0
        for line, height in zip(lines, heights, strict=True):
            for column, (title, rows) in enumerate(line):
                axes = place(
                    figure,
                    label + column * (cell + 5),
                    top,
                    cell - label - 2,
                    height * len(rows) / max(len(r) for _, r in line),
                )
                for y, row in enumerate(rows):
                    if row.figure.value is None:
                        continue
                    axes.barh(y, row.figure.value, height=0.68, **styles.get(row.role, styles[""])[1])
                    if row.figure.low is not None and row.figure.high is not None:
                        axes.plot([row.figure.low, row.figure.high], [y, y], color="#1b1f24", linewidth=0.8)
                axes.set_ylim(len(rows) - 0.4, -0.6)
                axes.set_yticks(range(len(rows)), [shorten(r.name, 30) for r in rows], fontsize=6.2)
                axes.axvline(reference, color=SOFT, linewidth=0.8, linestyle=(0, (4, 2)))
                axes.set_title(title, loc="left", pad=3, fontweight="bold")
                axes.locator_params(axis="x", nbins=5)
            top += height + 14
        handles = [Patch(label=text, **style) for text, style in styles.values()]
        figure.legend(
            handles=handles,
            loc="upper left",
            bbox_to_anchor=(0, 1),
            ncols=3,
            borderaxespad=0.1,
            borderpad=0.2,
        )

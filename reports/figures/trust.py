"""What is left of maps as a model forgets, and how the score falls as a map's favourite patches go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.figures.canvas import LINES, MARKERS, SERIES, SOFT, TEXT_WIDTH, canvas, place
from reports.words import shorten

HEIGHT, LEFT, GAP = 52.0, 12.0, 16.0
PER_ROW = 5


@dataclass(frozen=True)
class Line:
    """What one method's maps did; an empty sequence is not drawn.

    Attributes
    ----------
    name : str
    redrawn : sequence of float
        Share of the layers redrawn, 0 first.
    alike : sequence of float
        Likeness to the map of the trained model.
    random : float or None
        Likeness of maps of two random models.
    deleted : sequence of float
        Share of the patches deleted, 0 first.
    score : sequence of float
        Change of the logit.
    """

    name: str
    redrawn: Sequence[float] = ()
    alike: Sequence[float] = ()
    random: float | None = None
    deleted: Sequence[float] = ()
    score: Sequence[float] = ()


def trust_curves(path: Path, lines: Sequence[Line], chance: Sequence[tuple[float, float]]) -> None:
    """Draw both panels side by side, one line a method.

    Parameters
    ----------
    path : Path
        An `.svg`.
    lines : sequence of Line
    chance : sequence of (share deleted, change of the logit)
        In random order.
    """
    width = (TEXT_WIDTH - 2 * LEFT - GAP) / 2
    top = 3 + 3.8 * -(-(len(lines) + 2) // PER_ROW)
    with canvas(path, TEXT_WIDTH, top + HEIGHT + 19) as figure:
        _forgetting(place(figure, LEFT, top + 6, width, HEIGHT), lines)
        _deleting(place(figure, 2 * LEFT + GAP + width - 4, top + 6, width, HEIGHT), lines, chance)
        _legend(figure, lines)


def _style(index: int) -> dict[str, Any]:
    return {
        "color": SERIES[index % len(SERIES)],
        "marker": MARKERS[index % len(MARKERS)],
        "markersize": 3,
        "linewidth": 1.2,
    }


def _frame(axes: Any, title: str, across: str, up: str) -> None:
    axes.set_title(title, loc="left", pad=3, fontweight="bold")
    axes.grid(color="#e3e6e9", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.set_xlim(-0.03, 1.06)
    axes.set_xticks((0, 0.25, 0.5, 0.75, 1), ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_xlabel(across)
    axes.set_ylabel(up)


def _forgetting(axes: Any, lines: Sequence[Line]) -> None:
    _frame(
        axes,
        "The model forgets, from its output down",
        "layers redrawn at random",
        "likeness to the map shown",
    )
    for index, line in enumerate(lines):
        if not line.alike:
            continue
        axes.plot(line.redrawn, line.alike, **_style(index))
        if line.random is not None:
            # beyond the last step, where maps of two random models would lie
            axes.plot([1.0, 1.06], [line.random] * 2, color=_style(index)["color"], linewidth=2.4)
    axes.set_ylim(min(-0.05, *axes.get_ylim()), 1.04)


def _deleting(axes: Any, lines: Sequence[Line], chance: Sequence[tuple[float, float]]) -> None:
    _frame(
        axes,
        "Most relevant patches blurred away first",
        "patches blurred away",
        "change of the score (logit)",
    )
    axes.axhline(0, color=SOFT, linewidth=0.6)
    if chance:
        axes.plot(
            [x for x, _ in chance], [y for _, y in chance], color=SOFT, linestyle=LINES[1], linewidth=1.4
        )
    for index, line in enumerate(lines):
        if line.score:
            axes.plot(line.deleted, line.score, **_style(index))


def _legend(figure: Any, lines: Sequence[Line]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label=shorten(line.name, 26), **_style(i)) for i, line in enumerate(lines)]
    handles += [
        Line2D([], [], label="random order", color=SOFT, linestyle=LINES[1], linewidth=1.4),
        Line2D([], [], label="two random models", color=SOFT, linewidth=2.4),
    ]
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 1),
        ncols=PER_ROW,
        borderaxespad=0.1,
        borderpad=0.2,
        handlelength=2.4,
        columnspacing=1.4,
    )

"""Groups of maps: every map a point, and what the maps of a group have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reports.figures import overlay
from reports.figures.canvas import MARKERS, SERIES, SOFT, TEXT_WIDTH, canvas, place
from reports.figures.overlay import Array
from reports.figures.panels import GAP, TITLE, Scene, axes_of, heading, label
from reports.words import shorten

PER_ROW = 4
GREY = "#7b858f"


@dataclass(frozen=True)
class Dots:
    """The maps of one method as points.

    Attributes
    ----------
    title, remark : str
    dots : sequence of (x, y, group)
        Group −1 stands for none.
    """

    title: str
    remark: str
    dots: Sequence[tuple[float, float, int]]


@dataclass(frozen=True)
class Member:
    """One map to draw over its image.

    Attributes
    ----------
    title : str
    scene : Scene
    key : str
        Name of the map in it.
    """

    title: str
    scene: Scene
    key: str


def draw_dots(path: Path, panels: Sequence[Dots]) -> None:
    """Draw small plots side by side, one a method and answer.

    Parameters
    ----------
    path : Path
        An `.svg`.
    panels : sequence of Dots
    """
    width = (TEXT_WIDTH - GAP * (PER_ROW - 1)) / PER_ROW
    side = min(width, 34.0)
    rows = -(-len(panels) // PER_ROW)
    with canvas(path, TEXT_WIDTH, rows * (side + TITLE + 2)) as figure:
        for n, panel in enumerate(panels):
            left, top = n % PER_ROW * (width + GAP), n // PER_ROW * (side + TITLE + 2)
            heading(figure, (left, top), shorten(panel.title, 28), panel.remark)
            axes = place(figure, left, top + TITLE, side, side)
            for group in sorted({g for _, _, g in panel.dots}):
                x, y = np.array([(x, y) for x, y, g in panel.dots if g == group]).T
                style = {"color": GREY, "marker": "o"} if group < 0 else marker(group)
                axes.scatter(x, y, s=16, linewidths=0.4, edgecolors="white", **style)
            axes.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set(visible=True, color=SOFT, linewidth=0.4)


def marker(group: int) -> dict[str, Any]:
    """Colour and shape of a group's points."""
    return {"color": SERIES[group % len(SERIES)], "marker": MARKERS[group % len(MARKERS)]}


def draw_group(path: Path, members: Sequence[Member]) -> None:
    """Draw the mean map of a group and its typical members; brains are all cut at the same place.

    Parameters
    ----------
    path : Path
        A `.jpg`.
    members : sequence of Member
        The mean first.
    """
    brains = len(members[0].scene.planes(members[0].scene.start())) > 1
    per_row = 2 if brains else PER_ROW
    width = (TEXT_WIDTH - GAP * (per_row - 1)) / per_row
    heights = [_height(member.scene, width) for member in members]
    height = TITLE + 1 + max(heights)
    rows = -(-len(members) // per_row)
    with canvas(path, TEXT_WIDTH, rows * height + 13) as figure:
        for n, member in enumerate(members):
            cell = (n % per_row * (width + GAP), n // per_row * height)
            _draw(figure, member, _cursor(members[0], member.scene), cell, width)
        overlay.colour_bar(place(figure, 9, rows * height + 1.5, 44, 4), "the answer")


def _draw(figure: Any, member: Member, cursor: Any, cell: tuple[float, float], width: float) -> None:
    scene = member.scene
    relevance = scene.maps[member.key]
    soft = overlay.smooth(relevance)
    level = 0.5 * float(np.abs(soft).max(initial=0.0))
    background = overlay.grey(scene.image, scene.field)
    heading(figure, cell, shorten(member.title, int(width / 1.5)), scene.where(cursor))
    for axes, plane in axes_of(figure, scene, cursor, cell, width):
        share = plane.cut(relevance) / scene.scales[member.key]
        overlay.draw_map(axes, plane.cut(background), share, plane.cut(soft), level)
        overlay.outline(axes, plane.cut(scene.field).astype(float), 0.5, "#c8d0d8", 0.4, "solid")
        label(axes, plane)


def _height(scene: Scene, width: float) -> float:
    planes = scene.planes(scene.start())
    return (width - 0.8 * (len(planes) - 1)) / sum(p.width for p in planes) * max(p.height for p in planes)


def _cursor(first: Member, scene: Scene) -> Any:
    """Where a scene is cut so that it shows the place where the mean map is strongest."""
    cursor = first.scene.cursor(overlay.smooth(first.scene.maps[first.key]))
    if cursor is None or scene is first.scene:
        return cursor
    at: Array = np.linalg.solve(scene.affine, first.scene.affine @ [*cursor, 1])[:3]  # type: ignore[attr-defined]
    return tuple(int(i) for i in np.clip(np.rint(at), 0, np.array(scene.field.shape) - 1))

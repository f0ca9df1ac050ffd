"""The figure of one case: image, expert marks, maps side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reports.context import Arrays
from reports.figures import overlay
from reports.figures.canvas import TEXT_WIDTH, canvas, place
from reports.figures.overlay import Array
from reports.words import shorten

TITLE = 5.6
GAP = 2.5
LEGEND_HEIGHT = 15.0


@dataclass(frozen=True)
class Map:
    """One relevance map to draw.

    Attributes
    ----------
    key : str
        Its name in the arrays.
    title : str
        What stands above it.
    side : str
        Which class it speaks for, where there are maps of several.
    """

    key: str
    title: str
    side: str = ""


@dataclass(frozen=True)
class Plane:
    """One picture of a panel, ready to show.

    Attributes
    ----------
    cut : callable
        Takes an array of the case's grid (after `prepare`) to [rows, columns], first row at the top.
    width, height : float
        Physical size, any unit, the same for all planes of a panel.
    labels : (left, right, top, bottom)
        Orientation, '' where there is none.
    """

    cut: Any
    width: float
    height: float
    labels: tuple[str, str, str, str] = ("", "", "", "")


class Scene:
    """A case on its grid, and how its panels are cut. Subclasses know photographs and brains.

    Parameters
    ----------
    arrays : mapping
        `image`, `field`, `marks_…`, `map_…`.
    """

    panels_per_row = 3

    def __init__(self, arrays: Arrays) -> None:
        self.field = np.asarray(arrays["field"], dtype=bool)
        self.image = np.asarray(arrays["image"], dtype=np.float64)
        self.marks = {
            name.removeprefix("marks_"): np.asarray(values, dtype=bool)
            for name, values in arrays.items()
            if name.startswith("marks_") and np.any(values)
        }
        self.maps = {
            name: np.asarray(values, dtype=np.float64)
            for name, values in arrays.items()
            if name.startswith("map_")
        }
        self.scales = {name: overlay.scale_of(values, self.field) for name, values in self.maps.items()}

    def start(self) -> Any:
        """Where image and marks are cut."""
        return None

    def cursor(self, relevance: Array) -> Any:  # noqa: ARG002
        """Where a map is cut."""
        return None

    def planes(self, cursor: Any) -> list[Plane]:
        """Return the pictures of one panel, side by side."""
        raise NotImplementedError

    def where(self, cursor: Any) -> str:  # noqa: ARG002
        """Say where a panel is cut."""
        return ""


def draw_case(
    path: Path, scene: Scene, maps: Sequence[Map], names: Sequence[str], target: str, *, first: bool
) -> None:
    """Draw the panels of one case into one figure.

    Parameters
    ----------
    path : Path
        A `.jpg`.
    scene : Scene
    maps : sequence of Map
        As many as `capacity` allows.
    names : sequence of str
        Printed names of the marks.
    target : str
        What positive relevance speaks for.
    first : bool
        Whether image and marks come before the maps.
    """
    per_row = scene.panels_per_row
    width = (TEXT_WIDTH - GAP * (per_row - 1)) / per_row
    height = panel_height(scene)
    lead = lead_panels(scene, maps) if first else 0
    rows = -(-(lead + len(maps)) // per_row)
    total = rows * (height + TITLE + 1) + LEGEND_HEIGHT
    background = overlay.grey(scene.image, scene.field)
    with canvas(path, TEXT_WIDTH, total) as figure:
        cells = (
            (column * (width + GAP), row * (height + TITLE + 1))
            for row in range(rows)
            for column in range(per_row)
        )
        if first:
            _draw_image(figure, scene, next(cells), width)
            if scene.marks:
                _draw_marks(figure, scene, background, next(cells), width)
            elif lead == 2:
                next(cells)
        for item in maps:
            _draw_map(figure, scene, background, item, next(cells), width)
        draw_legend(figure, names, target, total)


def lead_panels(scene: Scene, maps: Sequence[Map]) -> int:
    """How many panels come before the maps: two where maps stand in pairs, so that pairs stay together."""
    return 2 if scene.marks or any(item.side for item in maps) else 1


def panel_height(scene: Scene) -> float:
    """Millimetres of one panel without its title."""
    width = (TEXT_WIDTH - GAP * (scene.panels_per_row - 1)) / scene.panels_per_row
    planes = scene.planes(scene.start())
    free = width - 0.8 * (len(planes) - 1)
    return free / sum(p.width for p in planes) * max(p.height for p in planes)


def capacity(scene: Scene, tallest: float) -> int:
    """How many panels a figure of at most `tallest` millimetres holds."""
    rows = max(int((tallest - LEGEND_HEIGHT) // (panel_height(scene) + TITLE + 1)), 1)
    return rows * scene.panels_per_row


def axes_of(
    figure: Any, scene: Scene, cursor: Any, cell: tuple[float, float], width: float
) -> list[tuple[Any, Plane]]:
    """Add the axes of one panel, one a plane, below its heading at `cell` (left, top; millimetres)."""
    planes = scene.planes(cursor)
    unit = (width - 0.8 * (len(planes) - 1)) / sum(p.width for p in planes)
    tallest = max(p.height for p in planes) * unit
    left = cell[0]
    out = []
    for plane in planes:
        top = cell[1] + TITLE + (tallest - plane.height * unit) / 2
        axes = place(figure, left, top, plane.width * unit, plane.height * unit)
        axes.set_axis_off()
        left += plane.width * unit + 0.8
        out.append((axes, plane))
    return out


def heading(figure: Any, cell: tuple[float, float], title: str, remark: str = "") -> None:
    """Write a panel's title, and a remark below it."""
    axes = place(figure, cell[0], cell[1], 10, TITLE)
    axes.set_axis_off()
    axes.text(0, 0.68, title, fontsize=7, fontweight="bold", va="center", transform=axes.transAxes)
    axes.text(0, 0.26, remark, fontsize=5.6, va="center", color="#525a63", transform=axes.transAxes)


def label(axes: Any, plane: Plane) -> None:
    """Write the orientation at the sides of a plane."""
    from matplotlib import patheffects

    spots = (
        (0.03, 0.5, "left", "center"),
        (0.97, 0.5, "right", "center"),
        (0.5, 0.955, "center", "top"),
        (0.5, 0.045, "center", "bottom"),
    )
    for text, (x, y, ha, va) in zip(plane.labels, spots, strict=True):
        if text:
            drawn = axes.text(
                x,
                y,
                text,
                ha=ha,
                va=va,
                fontsize=6.5,
                fontweight="bold",
                color="white",
                transform=axes.transAxes,
            )
            drawn.set_path_effects([patheffects.withStroke(linewidth=1.4, foreground="black")])


def _draw_image(figure: Any, scene: Scene, cell: tuple[float, float], width: float) -> None:
    heading(figure, cell, "Image", scene.where(scene.start()))
    coloured = scene.image.ndim > scene.field.ndim
    shown = np.clip(scene.image, 0, 1) if coloured else overlay.grey(scene.image, scene.field)
    for axes, plane in axes_of(figure, scene, scene.start(), cell, width):
        axes.imshow(plane.cut(shown), cmap=None if coloured else "gray", vmin=0, vmax=1, aspect="auto")
        label(axes, plane)


def _draw_marks(
    figure: Any, scene: Scene, background: Array, cell: tuple[float, float], width: float
) -> None:
    heading(figure, cell, "Expert marks", scene.where(scene.start()))
    for axes, plane in axes_of(figure, scene, scene.start(), cell, width):
        axes.imshow(0.8 * plane.cut(background), cmap="gray", vmin=0, vmax=1, aspect="auto")
        overlay.draw_marks(axes, {n: plane.cut(m) for n, m in scene.marks.items()})
        label(axes, plane)


def _draw_map(
    figure: Any, scene: Scene, background: Array, item: Map, cell: tuple[float, float], width: float
) -> None:
    relevance = scene.maps[item.key]
    scale = scene.scales[item.key]
    soft = overlay.smooth(relevance)
    cursor = scene.cursor(soft)
    level = 0.5 * float(np.abs(soft).max(initial=0.0))
    size = f"scale ±{scale:.2g}" if relevance.any() else "zero everywhere"
    rest = " · ".join(text for text in (size, scene.where(cursor)) if text)
    side = shorten(item.side, max(int(width / 1.05) - len(rest) - 3, 12))
    remark = f"{side} · {rest}" if side else rest
    heading(figure, cell, shorten(item.title, int(width / 1.5)), remark)
    for axes, plane in axes_of(figure, scene, cursor, cell, width):
        overlay.draw_map(axes, plane.cut(background), plane.cut(relevance) / scale, plane.cut(soft), level)
        overlay.draw_marks(axes, {n: plane.cut(m) for n, m in scene.marks.items()}, width=0.45)
        label(axes, plane)


def draw_legend(figure: Any, names: Sequence[str], target: str, total: float) -> None:
    """Draw the colour scale and what the lines mean at the foot of a figure `total` millimetres high."""
    bar = place(figure, 9, total - 12, 44, 4)
    overlay.colour_bar(bar, shorten(target, 16))
    bar.tick_params(length=0, labelsize=6)
    handles = overlay.legend_handles([shorten(name, 24) for name in names])
    columns = min(len(handles), 3)
    left, height = 66.0, 3.4 * -(-len(handles) // columns) + 2
    box = place(figure, left, total - 12, TEXT_WIDTH - left, height)
    box.set_facecolor("#4a4f55")
    box.set_xticks([])
    box.set_yticks([])
    for spine in box.spines.values():
        spine.set_visible(False)
    box.legend(
        handles=handles,
        loc="center left",
        ncols=columns,
        labelcolor="white",
        fontsize=6,
        borderpad=0.1,
        handlelength=2.2,
        columnspacing=1.2,
        labelspacing=0.3,
    )

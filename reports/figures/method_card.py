"""One case, every method side by side at one scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reports.figures import overlay
from reports.figures.canvas import TEXT_WIDTH, canvas
from reports.figures.canvas import place as axes_at
from reports.figures.overlay import Array
from reports.figures.panels import GAP, TITLE, Plane, Scene, draw_legend, heading, label
from reports.words import shorten

LEGEND_HEIGHT = 15.0
PER_ROW = 5


@dataclass(frozen=True)
class Panel:
    """One map: its name in the scene, and what stands above it."""

    key: str
    title: str
    remark: str


def draw_methods(
    path: Path, scene: Scene, panels: Sequence[Panel], names: Sequence[str], target: str
) -> None:
    """Draw the image and every map of one case.

    Parameters
    ----------
    path : Path
        A `.jpg`.
    scene : Scene
        Its maps are shares of their own scales already.
    panels : sequence of Panel
    names : sequence of str
        Printed names of the outlines.
    target : str
        What positive relevance speaks for.
    """
    plane = _plane(scene)
    width = (TEXT_WIDTH - GAP * (PER_ROW - 1)) / PER_ROW
    height = width / plane.width * plane.height
    rows = -(-(1 + len(panels)) // PER_ROW)
    total = rows * (height + TITLE + 1) + LEGEND_HEIGHT
    background = overlay.grey(scene.image, scene.field)
    with canvas(path, TEXT_WIDTH, total, dpi=220) as figure:
        for index, panel in enumerate((None, *panels)):
            left = index % PER_ROW * (width + GAP)
            top = index // PER_ROW * (height + TITLE + 1)
            title, remark = ("Image", "") if panel is None else (panel.title, panel.remark)
            heading(figure, (left, top), shorten(title, int(width / 1.35)), remark)
            axes = axes_at(figure, left, top + TITLE, width, height)
            axes.set_axis_off()
            if panel is None:
                _draw_image(axes, scene, plane, background)
            else:
                share = scene.maps[panel.key]
                soft = overlay.smooth(np.squeeze(share)).reshape(share.shape)
                level = 0.5 * float(np.abs(soft).max(initial=0.0))
                overlay.draw_map(axes, plane.cut(background), plane.cut(share), plane.cut(soft), level)
                overlay.draw_marks(axes, {n: plane.cut(m) for n, m in scene.marks.items()}, width=0.45)
            label(axes, plane)
        draw_legend(figure, names, target, total)


def _draw_image(axes: Any, scene: Scene, plane: Plane, background: Array) -> None:
    coloured = scene.image.ndim > scene.field.ndim
    shown = plane.cut(np.clip(scene.image, 0, 1)) if coloured else plane.cut(background)
    axes.imshow(shown, cmap=None if coloured else "gray", vmin=0, vmax=1, aspect="auto")
    overlay.draw_marks(axes, {n: plane.cut(m) for n, m in scene.marks.items()}, width=0.45)


def _plane(scene: Scene) -> Plane:
    """Choose the whole photograph, or the coronal plane: of a volume one such slice was kept."""
    planes = scene.planes((0, 0, 0))
    return planes[1] if len(planes) > 1 else planes[0]

"""Where the regions of an atlas were put in an image, as outlines that a reader can judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reports.context import Arrays
from reports.figures import overlay
from reports.figures.brain import Brain
from reports.figures.canvas import TEXT_WIDTH, canvas, place
from reports.figures.fundus import Photograph
from reports.figures.overlay import Array
from reports.figures.panels import GAP, TITLE, Scene, axes_of, heading, label
from reports.words import shorten

LEGEND = 6.0
SHARPNESS = 420  # pixels of the longer side, so that an outline is a thin line
EXPECTED, CONTROL, OTHER = (1.0, 0.69, 0.0), (0.30, 0.72, 1.0), (1.0, 1.0, 1.0)
REFUSED = (1.0, 0.35, 0.30)
TINT, FAINT = 0.28, 0.08  # over grey, over a photograph's own colours
_LABELS = "map_labels"


@dataclass(frozen=True)
class Placed:
    """One image with its regions.

    Attributes
    ----------
    title, remark : str
        Written above it.
    arrays : mapping
        `image`, `field`, `regions` or `regions_refused`, and where known `affine`, `regions_expected`,
        `regions_control`.
    """

    title: str
    remark: str
    arrays: Arrays


def draw_regions(path: Path, items: Sequence[Placed], *, columns: int = 1) -> None:
    """Draw images with the outlines of their regions.

    Parameters
    ----------
    path : Path
        A `.jpg`.
    items : sequence of Placed
        All brains, or all photographs.
    columns : int
        Images side by side.
    """
    scenes = [_scene(item.arrays) for item in items]
    width = (TEXT_WIDTH - GAP * (columns - 1)) / columns
    heights = [_height(scene, width) + TITLE + 1 for scene, _ in scenes]
    rows = [max(heights[i : i + columns]) for i in range(0, len(heights), columns)]
    with canvas(path, TEXT_WIDTH, sum(rows) + LEGEND) as figure:
        top = 0.0
        for index, (item, (scene, labels)) in enumerate(zip(items, scenes, strict=True)):
            cell = ((index % columns) * (width + GAP), top)
            if index % columns == columns - 1:
                top += rows[index // columns]
            _draw(figure, item, scene, labels, cell, width)
        _legend(figure, items, sum(rows))


def _scene(arrays: Arrays) -> tuple[Scene, Array]:
    """Turn and cut an image, and its labels with it."""
    labels = np.asarray(arrays["regions"] if "regions" in arrays else arrays["regions_refused"])
    plain = {name: arrays[name] for name in ("image", "field", "affine") if name in arrays}
    if labels.ndim == 2:
        scene: Scene = Photograph(plain)
        step = -(-max(labels.shape) // max(scene.field.shape))
        return scene, labels[::step, ::step]
    brain = Brain({**plain, _LABELS: labels})
    return brain, np.rint(brain.maps[_LABELS]).astype(int)


def _height(scene: Scene, width: float) -> float:
    planes = scene.planes([0] * scene.field.ndim)
    unit = (width - 0.8 * (len(planes) - 1)) / sum(plane.width for plane in planes)
    return max(plane.height for plane in planes) * unit


def _cursor(scene: Scene, labels: Array, expected: Sequence[int]) -> Any:
    """Cut through the expected regions of one side, else through the middle of what is bright."""
    if not isinstance(scene, Brain):
        return scene.start()
    here = np.isin(labels, expected)
    if not here.any():
        here = scene.field & (scene.image > 0.2 * np.percentile(scene.image, 99))
        return _nearest_to_middle(here if here.any() else np.ones(here.shape, bool))
    half = here.shape[0] // 2
    left = here.copy()
    left[half:] = False
    return _nearest_to_middle(left if left.any() else here)


def _nearest_to_middle(mask: Array) -> tuple[int, ...]:
    places = np.argwhere(mask)
    middle = places.mean(axis=0)
    return tuple(int(i) for i in places[np.argmin(((places - middle) ** 2).sum(axis=1))])


def _draw(
    figure: Any, item: Placed, scene: Scene, labels: Array, cell: tuple[float, float], width: float
) -> None:
    expected = np.asarray(item.arrays.get("regions_expected", ())).tolist()
    control = np.asarray(item.arrays.get("regions_control", ())).tolist()
    refused = "regions" not in item.arrays
    cursor = _cursor(scene, labels, expected)
    where = scene.where(cursor)
    remark = " · ".join(text for text in (item.remark, where) if text)
    heading(figure, cell, shorten(item.title, int(width / 1.5)), shorten(remark, int(width / 1.0)))
    coloured = scene.image.ndim > scene.field.ndim
    shown = np.clip(scene.image, 0, 1) if coloured else overlay.grey(scene.image, scene.field)
    for axes, plane in axes_of(figure, scene, cursor, cell, width):
        axes.imshow(
            plane.cut(shown), cmap=None if coloured else "gray", vmin=0, vmax=1, aspect="auto",
            extent=(0, 1, 1, 0),
        )  # fmt: skip
        tint = FAINT if coloured else TINT
        lines = outlines(plane.cut(labels), expected, control, REFUSED if refused else OTHER, tint)
        axes.imshow(lines, extent=(0, 1, 1, 0), aspect="auto", interpolation="nearest")
        label(axes, plane)


def outlines(
    labels: Array,
    expected: Sequence[int],
    control: Sequence[int],
    colour: tuple[float, float, float] = OTHER,
    opacity: float = TINT,
) -> Array:
    """Outline every region of a slice as RGBA; expected regions and controls are tinted as well.

    Parameters
    ----------
    labels : ndarray of int, shape [H, W]
    expected, control : sequence of int
        Their labels.
    colour : (float, float, float)
        Of the outlines of all other regions.
    opacity : float
        Of the tint, 0–1.
    """
    factor = max(1, SHARPNESS // max(labels.shape))
    big = np.repeat(np.repeat(labels, factor, axis=0), factor, axis=1)
    edge = np.zeros(big.shape, bool)
    edge[1:] |= big[1:] != big[:-1]
    edge[:, 1:] |= big[:, 1:] != big[:, :-1]
    out = np.zeros((*big.shape, 4))
    out[edge] = (*colour, 0.75)
    for chosen, tint in ((control, CONTROL), (expected, EXPECTED)):
        inside = np.isin(big, chosen)
        out[inside & ~edge] = (*tint, opacity)
        near = inside.copy()
        near[:-1] |= inside[1:]
        near[:, :-1] |= inside[:, 1:]
        near[1:] |= inside[:-1]
        near[:, 1:] |= inside[:, :-1]
        out[edge & near] = (*tint, 1.0)
    return out


def _legend(figure: Any, items: Sequence[Placed], top: float) -> None:
    from matplotlib.patches import Patch

    handles = []
    if any("regions" in item.arrays for item in items):
        handles = [
            Patch(facecolor=(*tint, 0.45), edgecolor=tint, label=name)
            for key, tint, name in (
                ("regions_expected", EXPECTED, "expected for the disease"),
                ("regions_control", CONTROL, "negative control"),
            )
            if any(key in item.arrays and len(item.arrays[key]) for item in items)
        ]
        handles.append(Patch(facecolor="#4a4f55", edgecolor="white", label="other region"))
    if any("regions" not in item.arrays for item in items):
        handles.append(Patch(facecolor="#4a4f55", edgecolor=REFUSED, label="refused: not used"))
    axes = place(figure, 0, top + 1, TEXT_WIDTH, LEGEND - 1)
    axes.set_axis_off()
    axes.legend(handles=handles, loc="center left", ncols=4, fontsize=6, borderpad=0, handlelength=1.6)

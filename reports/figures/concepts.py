"""Concepts of one case: the image where each shows, everything else black."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reports.context import Arrays
from reports.figures import overlay
from reports.figures.canvas import TEXT_WIDTH, canvas
from reports.figures.panels import GAP, TITLE, Scene, axes_of, heading, label
from reports.words import shorten

SIDE_HEADING = 5.0
KEY = "map_concept/"
"""What a concept's mask is called as an array of a scene, so that it is turned and cut as maps are."""


@dataclass(frozen=True)
class Concept:
    """One concept to draw.

    Attributes
    ----------
    array : str
        Name of its mask.
    title, remark : str
        Stand above it.
    """

    array: str
    title: str
    remark: str


def scene_arrays(arrays: Arrays, masks: Sequence[str]) -> dict[str, np.ndarray[Any, Any]]:
    """Image, field and the masks of concepts as a scene takes them."""
    kept = {name: arrays[name] for name in ("image", "field", "affine") if name in arrays}
    return kept | {f"{KEY}{name}": arrays[name].astype(np.float32) for name in masks}


def draw_concepts(path: Path, scene: Scene, sides: Mapping[str, Sequence[Concept]]) -> None:
    """Draw the image and the concepts of each class, a block a class.

    Parameters
    ----------
    path : Path
        A `.jpg`.
    scene : Scene
        Of `scene_arrays`.
    sides : mapping of str to sequence of Concept
        What stands above a class's block → its concepts.
    """
    per_row = 2 if scene.planes(scene.start())[1:] else 4
    width = (TEXT_WIDTH - GAP * (per_row - 1)) / per_row
    planes = scene.planes(scene.start())
    unit = (width - 0.8 * (len(planes) - 1)) / sum(p.width for p in planes)
    height = TITLE + 1 + unit * max(p.height for p in planes)
    rows = {side: -(-(1 + len(concepts)) // per_row) for side, concepts in sides.items()}
    total = sum(SIDE_HEADING + count * height for count in rows.values())
    coloured = scene.image.ndim > scene.field.ndim
    shown = np.clip(scene.image, 0, 1) if coloured else overlay.grey(scene.image, scene.field)
    with canvas(path, TEXT_WIDTH, total) as figure:
        top = 0.0
        for side, concepts in sides.items():
            heading(figure, (0.0, top), shorten(side, 110))
            top += SIDE_HEADING
            cursor = _place(scene, concepts[0])[1]
            for n, concept in enumerate([None, *concepts]):
                cell = (n % per_row * (width + GAP), top + n // per_row * height)
                _panel(figure, scene, shown, concept, cursor, cell, width)
            top += rows[side] * height


def _panel(
    figure: Any,
    scene: Scene,
    shown: Any,
    concept: Concept | None,
    first: Any,
    cell: tuple[float, float],
    width: float,
) -> None:
    """Draw the image, or where a concept shows in it, with the outline of brain or field of view."""
    if concept is None:
        mask, cursor, title, remark = None, first, "Image", scene.where(first)
    else:
        mask, cursor, inside = _place(scene, concept)
        title, remark = (
            concept.title,
            concept.remark if inside else f"{concept.remark} · only outside the line",
        )
    heading(figure, cell, title, remark)
    coloured = scene.image.ndim > scene.field.ndim
    for axes, plane in axes_of(figure, scene, cursor, cell, width):
        pixels = plane.cut(shown)
        if mask is not None:
            where = plane.cut(mask)
            pixels = pixels * (where[..., None] if coloured else where)
        axes.imshow(pixels, cmap=None if coloured else "gray", vmin=0, vmax=1, aspect="auto")
        overlay.outline(axes, plane.cut(scene.field).astype(float), 0.5, "#8a939c", 0.5, "solid")
        label(axes, plane)


def _place(scene: Scene, concept: Concept) -> tuple[Any, Any, bool]:
    """Where a concept shows, where it is cut, and whether any of it lies in the brain or field of view."""
    mask = scene.maps[f"{KEY}{concept.array}"] > 0.5
    seen = mask & scene.field
    inside = bool(seen.any())
    return mask, scene.cursor(overlay.smooth((seen if inside else mask).astype(np.float32))), inside

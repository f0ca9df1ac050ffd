"""A fundus photograph on a page."""

from __future__ import annotations

from typing import Any

import numpy as np

from reports.context import Arrays
from reports.figures.overlay import Array
from reports.figures.panels import Plane, Scene

LARGEST = 640


class Photograph(Scene):
    """A photograph, seen as the camera saw it.

    Means of blocks where it has more pixels than a page can show, so that no thin line is lost between two.
    Three columns, or four for many maps and where maps of two classes stand in pairs.
    """

    def __init__(self, arrays: Arrays) -> None:
        super().__init__(arrays)
        step = -(-max(self.field.shape) // LARGEST)
        if step > 1:
            self.image = _blocks(self.image, step).mean(axis=(1, 3))
            self.field = np.any(_blocks(self.field, step), axis=(1, 3))
            self.marks = {name: np.any(_blocks(mask, step), axis=(1, 3)) for name, mask in self.marks.items()}
            self.maps = {name: _blocks(values, step).mean(axis=(1, 3)) for name, values in self.maps.items()}
        classes = {name.rsplit("_class-", 1)[-1] for name in self.maps}
        self.panels_per_row = 3 if len(self.maps) <= 7 and len(classes) < 2 else 4

    def planes(self, cursor: Any) -> list[Plane]:  # noqa: ARG002
        """Return the whole photograph."""
        height, width = self.field.shape
        return [Plane(lambda a: a, width, height)]


def _blocks(values: Array, step: int) -> Array:
    """Cut the first two axes into blocks, the last ones filled up with their edge."""
    pad = [(0, -n % step) for n in values.shape[:2]] + [(0, 0)] * (values.ndim - 2)
    full = np.pad(values, pad, mode="edge")
    rows, columns, *rest = full.shape
    return full.reshape(rows // step, step, columns // step, step, *rest)

"""A fundus photograph on a page."""

from __future__ import annotations

from typing import Any

from reports.context import Arrays
from reports.figures.panels import Plane, Scene


class Photograph(Scene):
    """A photograph, seen as the camera saw it.

    Three columns, or four for many maps and where maps of two classes stand in pairs.
    """

    def __init__(self, arrays: Arrays) -> None:
        super().__init__(arrays)
        classes = {name.rsplit("_class-", 1)[-1] for name in self.maps}
        self.panels_per_row = 3 if len(self.maps) <= 7 and len(classes) < 2 else 4

    def planes(self, cursor: Any) -> list[Plane]:  # noqa: ARG002
        """Return the whole photograph."""
        height, width = self.field.shape
        return [Plane(lambda a: a, width, height)]

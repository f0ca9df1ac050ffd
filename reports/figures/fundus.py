"""A fundus photograph on a page."""

from __future__ import annotations

from typing import Any

from reports.context import Arrays
from reports.figures.panels import Plane, Scene


class Photograph(Scene):
    """A photograph, seen as the camera saw it; columns follow how many maps there are."""

    def __init__(self, arrays: Arrays) -> None:
        super().__init__(arrays)
        self.panels_per_row = 3 if len(self.maps) <= 7 else 4

    def planes(self, cursor: Any) -> list[Plane]:  # noqa: ARG002
        """Return the whole photograph."""
        height, width = self.field.shape
        return [Plane(lambda a: a, width, height)]

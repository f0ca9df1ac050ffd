"""A brain on a page: three planes, radiological convention, labelled."""

from __future__ import annotations

from typing import Any

import numpy as np

from reports.context import Arrays
from reports.figures import overlay
from reports.figures.overlay import Array
from reports.figures.panels import Plane, Scene

MARGIN = 3
STRONG = 0.25


class Brain(Scene):
    """An MRI turned to the nearest anatomical axes.

    The patient's right is on the picture's left. Cut to the brain, but never so that relevance above a
    quarter of its map's scale is cut away. Without an affine nothing is labelled.
    """

    panels_per_row = 2

    def __init__(self, arrays: Arrays) -> None:
        from nibabel.affines import from_matvec, voxel_sizes
        from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

        super().__init__(arrays)
        self.labelled = "affine" in arrays
        affine = np.asarray(arrays["affine"], dtype=float) if self.labelled else np.eye(4)
        turn = io_orientation(affine)
        affine = affine @ np.asarray(inv_ornt_aff(turn, self.field.shape))
        everything = [self.image, self.field, *self.marks.values(), *self.maps.values()]
        turned = [np.asarray(apply_orientation(a, turn)) for a in everything]
        box = self._box(turned[1], turned[2 + len(self.marks) :])
        turned = [a[box] for a in turned]
        self.image, self.field = turned[0], turned[1]
        self.marks = dict(zip(self.marks, turned[2:], strict=False))
        self.maps = dict(zip(self.maps, turned[2 + len(self.marks) :], strict=True))
        self.sizes = voxel_sizes(affine)
        self.affine = affine @ from_matvec(np.eye(3), [s.start for s in box])

    @staticmethod
    def _box(field: Array, maps: list[Array]) -> tuple[slice, ...]:
        seen = field.copy()
        for relevance in maps:
            seen |= np.abs(relevance) > STRONG * overlay.scale_of(relevance, field)
        if not seen.any():
            return tuple(slice(0, n) for n in field.shape)
        places = np.nonzero(seen)
        return tuple(
            slice(max(int(p.min()) - MARGIN, 0), min(int(p.max()) + MARGIN + 1, n))
            for p, n in zip(places, field.shape, strict=True)
        )

    def start(self) -> tuple[int, ...]:
        """Return the middle of the largest mark, or where the first map is strongest."""
        if self.marks:
            return self._middle(max(self.marks.values(), key=np.count_nonzero))
        if self.maps:
            return self.cursor(overlay.smooth(next(iter(self.maps.values()))))
        return self._middle(self.field)

    def cursor(self, relevance: Array) -> tuple[int, ...]:
        """Return where smoothed relevance for the class is largest."""
        if not relevance.max(initial=0.0) > 0:
            return self._middle(self.field)
        return tuple(int(i) for i in np.unravel_index(int(np.argmax(relevance)), relevance.shape))

    def where(self, cursor: Any) -> str:
        """Return world coordinates in millimetres."""
        if not self.labelled:
            return "voxel " + ", ".join(str(i) for i in cursor)
        x, y, z = (f"{v:+.0f}".replace("-", "−") for v in (self.affine @ [*cursor, 1])[:3])
        return f"x {x}, y {y}, z {z} mm"

    def planes(self, cursor: Any) -> list[Plane]:
        """Return axial, coronal and sagittal planes."""
        i, j, k = cursor
        nx, ny, nz = np.asarray(self.field.shape) * self.sizes

        def label(*letters: str) -> Any:
            return letters if self.labelled else ("", "", "", "")

        return [
            Plane(lambda a: a[::-1, ::-1, k].T, nx, ny, label("R", "L", "A", "P")),
            Plane(lambda a: a[::-1, j, ::-1].T, nx, nz, label("R", "L", "S", "I")),
            Plane(lambda a: a[i, ::-1, ::-1].T, ny, nz, label("A", "P", "S", "I")),
        ]

    @staticmethod
    def _middle(mask: Array) -> tuple[int, ...]:
        places = np.argwhere(mask)
        if not len(places):
            return tuple(n // 2 for n in mask.shape)
        centre = places.mean(axis=0)
        nearest = places[np.argmin(((places - centre) ** 2).sum(axis=1))]
        return tuple(int(i) for i in nearest)

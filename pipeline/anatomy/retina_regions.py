"""The retina as an atlas: ETDRS fields, quadrants and disc as labels with a table, like a brain's regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.anatomy.brain import Regions
from pipeline.anatomy.retina import FieldOfView, field_of_view
from pipeline.anatomy.retina_landmarks import Landmarks, find_landmarks
from pipeline.images.types import LabelArray, Photograph

if TYPE_CHECKING:
    from collections.abc import Mapping

DISC_TO_FOVEA_MM = 4.76
CIRCLES_MM = (0.5, 1.5, 3.0)
MIN_CONFIDENCE = 0.15
_SECTORS = ("superior", "temporal", "inferior", "nasal")
ETDRS_TABLE: dict[int, str] = {
    1: "optic disc",
    2: "centre",
    **{3 + i: f"inner {name}" for i, name in enumerate(_SECTORS)},
    **{7 + i: f"outer {name}" for i, name in enumerate(_SECTORS)},
    **{
        11 + i: f"periphery {name}"
        for i, name in enumerate(
            ("superior temporal", "inferior temporal", "inferior nasal", "superior nasal")
        )
    },
}
QUADRANT_TABLE: dict[int, str] = {
    i: f"{name} quadrant of the picture"
    for i, name in enumerate(("upper left", "upper right", "lower left", "lower right"), 1)
}


def retina_regions(photograph: Photograph, *, view: FieldOfView | None = None) -> Regions:
    """Regions of a fundus photograph, on its own pixels.

    Parameters
    ----------
    photograph : Photograph
    view : FieldOfView, optional
        Found if not given.

    Returns
    -------
    Regions
        The nine ETDRS fields, the periphery in quadrants, and the disc (`ETDRS_TABLE`). Where the landmarks
        are not to be trusted: the four quadrants of the field of view (`QUADRANT_TABLE`), with a note.

    Raises
    ------
    pipeline.errors.AnatomyError
        If no field of view is seen.

    References
    ----------
    ETDRS Report 10, 1991, doi:10.1016/S0161-6420(13)38012-9 (grid); Jonas et al. 2015,
    doi:10.1371/journal.pone.0138701 (disc to fovea 4.76 ± 0.34 mm, which gives the scale).
    """
    return retina_regions_on(photograph, np.eye(3), photograph.shape, view=view)


def retina_regions_on(
    photograph: Photograph,
    native_from_grid: npt.NDArray[np.float64],
    shape: tuple[int, int],
    *,
    view: FieldOfView | None = None,
) -> Regions:
    """Regions of a fundus photograph on another grid, such as a model's.

    Parameters
    ----------
    photograph : Photograph
    native_from_grid : ndarray of float64, shape (3, 3)
        Grid index (row, column) to the photograph's pixels; `Prepared.native_from_model`.
    shape : tuple of int
        Rows and columns of the grid.
    view : FieldOfView, optional
    """
    view = field_of_view(photograph) if view is None else view
    found = find_landmarks(photograph, view)
    index = np.indices(shape, dtype=np.float64).reshape(2, -1)
    at = native_from_grid[:2, :2] @ index + native_from_grid[:2, 2:]
    rows, columns = at.reshape(2, *shape)
    seen = (rows - view.row) ** 2 + (columns - view.column) ** 2 <= view.radius**2
    for axis, size in ((rows, view.shape[0]), (columns, view.shape[1])):
        seen &= (axis >= -0.5) & (axis <= size - 0.5)
    table: Mapping[int, str]
    notes: tuple[str, ...] = ()
    if trusted(found):
        labels, table = _etdrs(rows, columns, found), ETDRS_TABLE
    else:
        labels, table = _quadrants(rows, columns, view), QUADRANT_TABLE
        sure = f"{found.disc_confidence:.2f} and {found.fovea_confidence:.2f}"
        notes = (
            f"disc or fovea uncertain ({sure}, below {MIN_CONFIDENCE}): quadrants of the picture instead",
        )
    labels = np.where(seen, labels, 0).astype(np.int32)
    present = set(np.unique(labels).tolist())
    return Regions(
        labels=labels,
        table={i: name for i, name in table.items() if i in present},
        dice=found.disc_confidence,
        registered=True,
        reason="",
        how="landmarks",
        notes=notes,
    )


def trusted(found: Landmarks) -> bool:
    """Whether both landmarks stand out enough."""
    return min(found.disc_confidence, found.fovea_confidence) >= MIN_CONFIDENCE


def _etdrs(rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64], found: Landmarks) -> LabelArray:
    """Label the grid about the fovea; the disc lies on top."""
    apart = np.hypot(found.disc[0] - found.fovea[0], found.disc[1] - found.fovea[1])
    scale = DISC_TO_FOVEA_MM / apart
    up = (found.fovea[0] - rows) * scale
    temporal = (columns - found.fovea[1]) * scale * (-1 if found.laterality == "right" else 1)
    distance = np.hypot(up, temporal)
    sector = np.where(np.abs(up) >= np.abs(temporal), np.where(up > 0, 0, 2), np.where(temporal > 0, 1, 3))
    quarter = np.where(temporal > 0, np.where(up > 0, 0, 1), np.where(up > 0, 3, 2))
    labels = np.where(
        distance < CIRCLES_MM[0],
        2,
        np.where(
            distance < CIRCLES_MM[1], 3 + sector, np.where(distance < CIRCLES_MM[2], 7 + sector, 11 + quarter)
        ),
    )
    disc = np.hypot(rows - found.disc[0], columns - found.disc[1]) <= found.disc[2]
    return np.asarray(np.where(disc, 1, labels), np.int32)


def _quadrants(
    rows: npt.NDArray[np.float64], columns: npt.NDArray[np.float64], view: FieldOfView
) -> LabelArray:
    return np.asarray(1 + 2 * (rows > view.row) + (columns > view.column), np.int32)

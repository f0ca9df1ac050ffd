"""Maps and the field that they are measured in: checked in one place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.errors import MethodError

Floats = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def checked(
    field: BoolArray | None, *maps: npt.ArrayLike, finite: bool = False
) -> tuple[BoolArray, list[Floats]]:
    """Check that maps and their field belong together.

    Parameters
    ----------
    field : ndarray of bool, shape spatial, or None
        Brain or field of view; None: everything.
    *maps : array, each of shape spatial
        Relevance, one channel; at least one.
    finite : bool
        Whether the maps have to be finite in the field.

    Returns
    -------
    ndarray of bool, shape spatial
        The field.
    list of ndarray of float64, each of shape spatial
        The maps.

    Raises
    ------
    MethodError
        If shapes differ, the field is empty, or a map is not finite in it and has to be.
    """
    made: list[Floats] = [np.asarray(values, np.float64) for values in maps]
    inside = np.ones(made[0].shape, bool) if field is None else np.asarray(field, bool)
    if any(values.shape != inside.shape for values in made):
        shapes = " and ".join(str(values.shape) for values in made)
        raise MethodError(
            f"maps of shape {shapes} do not belong to a field of shape {inside.shape}",
            "give maps and field of one image",
        )
    if not inside.any():
        raise MethodError("a map cannot be measured in an empty field", "give the brain or the field of view")
    if finite and not all(np.isfinite(values[inside]).all() for values in made):
        raise MethodError("the relevance map is not finite", "report the method and the case")
    return inside, made

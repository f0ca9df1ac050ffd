"""Where the marks of other patients lie: a null map that knows the experts, but neither image nor model."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Mask = npt.NDArray[np.bool_]
Map = npt.NDArray[np.float32]
Transform = npt.NDArray[np.float64]

SIGMA = {2: 3.0, 3: 1.0}
"""Smoothing of the sum over other patients, in cells: few patients leave holes that mean nothing."""


def gathered(mask: Mask, native_from_common: npt.NDArray[Any], shape: Sequence[int]) -> Map:
    """Bring a mask onto a common grid, however fine its own.

    Parameters
    ----------
    mask : ndarray of bool, shape native
        Marked pixels.
    native_from_common : ndarray of float64, shape (D + 1, D + 1)
        Cell of the common grid (its centre) → native index.
    shape : sequence of int
        Of the common grid.

    Returns
    -------
    ndarray of float32, shape ``shape``
        Share of all marked pixels that lies in each cell: no lesion is lost for its size, and every case
        counts the same, however large its lesions.
    """
    where = np.argwhere(mask)
    inverse = np.linalg.inv(native_from_common)
    index = np.rint(where @ inverse[:-1, :-1].T + inverse[:-1, -1]).astype(np.int64)
    inside = ((index >= 0) & (index < np.asarray(shape))).all(axis=1)
    cells = np.ravel_multi_index(tuple(index[inside].T), tuple(shape))
    counts = np.bincount(cells, minlength=int(np.prod(shape))).reshape(tuple(shape))
    return (counts / max(len(where), 1)).astype(np.float32)


def mean_mask_of_others(
    shares: Mapping[str, Map], patients: Mapping[str, Hashable], patient: Hashable
) -> Map | None:
    """Mean over all cases of *other* patients, smoothed.

    Parameters
    ----------
    shares : mapping of str to ndarray, shape common
        Case → its mask on the common grid, see `gathered`.
    patients : mapping of str
        Case → patient.
    patient : hashable
        Whose cases are left out.

    Returns
    -------
    ndarray of float32, shape common, or None
        None without any other patient.
    """
    others = [share for case, share in shares.items() if patients[case] != patient]
    if not others:
        return None
    mean = np.zeros(others[0].shape, np.float64)
    for share in others:
        mean += share
    mean /= len(others)
    return ndimage.gaussian_filter(mean.astype(np.float32), SIGMA[mean.ndim])


def on_model_grid_of(common: Map, common_from_model: npt.NDArray[Any], field: Mask) -> Map:
    """Interpolate a map on the common grid at the pixels of a model's grid; 0 outside the field.

    Parameters
    ----------
    common : ndarray of float32, shape common
    common_from_model : ndarray of float64, shape (D + 1, D + 1)
        Model-grid index → cell of the common grid.
    field : ndarray of bool, shape of the model's grid
        Brain or field of view.

    Returns
    -------
    ndarray of float32, shape of the model's grid
    """
    here = ndimage.affine_transform(
        common, common_from_model[:-1, :-1], common_from_model[:-1, -1], output_shape=field.shape, order=1
    )
    return np.where(field, np.maximum(here, 0), 0).astype(np.float32)

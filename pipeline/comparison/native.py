"""Maps against marks at the image's own resolution, without ever storing a native-size map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.comparison.localisation import Localisation, measure
from pipeline.errors import MethodError

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


def measure_native(
    relevance: Array,
    masks: Mapping[str, Mask],
    native_from_model: npt.NDArray[np.float64],
    *,
    field: Mask | None = None,
    native_field: Mask | None = None,
    spacing: float | Sequence[float] = 1.0,
    tolerance: float = 0.0,
    smallest: int = 1,
) -> dict[str, Localisation]:
    """Measure a map on the model's grid against masks in native pixels or voxels.

    The map is interpolated (bi- or trilinear) at the centre of every native pixel. Native pixels outside the
    model's grid, which the model never saw, are outside the field; marks there are counted as ``lost``.

    Parameters
    ----------
    relevance : ndarray, shape model grid
        Signed relevance, 2D or 3D.
    masks : mapping of str to ndarray of bool, shape native
        Lesion type → marked pixels, at least one.
    native_from_model : ndarray of float64, shape (D + 1, D + 1)
        Homogeneous transform, model-grid index → native index (pixel centres).
    field : ndarray of bool, shape model grid, optional
        Field of view or brain on the model's grid; taken to native pixels by nearest neighbour.
    native_field : ndarray of bool, shape native, optional
        The same in native pixels; it wins over ``field``.
    spacing, tolerance, smallest
        As in `pipeline.comparison.localisation.measure`, in native pixels.

    Returns
    -------
    dict of str to Localisation

    Raises
    ------
    MethodError
        If no mask is given, shapes differ, or the transform cannot be inverted.
    """
    shape = next((mask.shape for mask in masks.values()), None)
    if shape is None:
        raise MethodError("no expert mask was given", "measure only cases with marks")
    seen = seen_by_model(relevance.shape, native_from_model, shape)
    if native_field is None and field is not None:
        native_field = to_native(field, native_from_model, shape)
    values = to_native(relevance, native_from_model, shape)
    return measure(
        values,
        masks,
        seen if native_field is None else seen & native_field,
        spacing=spacing,
        tolerance=tolerance,
        smallest=smallest,
    )


def to_native(
    values: Array, native_from_model: npt.NDArray[np.float64], native_shape: Sequence[int]
) -> Array:
    """Bring a map to native pixels: linear for numbers (as float32), nearest neighbour for masks and labels.

    Parameters
    ----------
    values : ndarray, shape model grid
        A map (floating), a mask (bool) or labels (integer).
    native_from_model : ndarray of float64, shape (D + 1, D + 1)
        Model-grid index → native index.
    native_shape : sequence of int
        Shape of the result.

    Returns
    -------
    ndarray, shape ``native_shape``
        Beyond the model's grid a map goes on with its edge, a mask or label with 0.
    """
    matrix, offset = _model_from_native(native_from_model, values.ndim)
    floating = np.issubdtype(values.dtype, np.floating)
    stored: Any = values if floating else values.astype(np.uint8 if values.dtype == bool else np.int32)
    result: Array = np.empty(tuple(native_shape), np.float32 if floating else stored.dtype)
    ndimage.affine_transform(
        stored,
        matrix,
        offset=offset,
        output_shape=result.shape,
        output=result,
        order=1 if floating else 0,
        mode="nearest" if floating else "grid-constant",
    )
    return result.view(np.bool_) if values.dtype == bool else result


def seen_by_model(
    model_shape: Sequence[int], native_from_model: npt.NDArray[np.float64], native_shape: Sequence[int]
) -> Mask:
    """Native pixels whose centre lies on the model's grid (up to half a model pixel beyond its centres).

    Parameters
    ----------
    model_shape, native_shape : sequence of int
        Shapes of the two grids.
    native_from_model : ndarray of float64, shape (D + 1, D + 1)
        Model-grid index → native index.

    Returns
    -------
    ndarray of bool, shape ``native_shape``
    """
    matrix, offset = _model_from_native(native_from_model, len(model_shape))
    full = np.diag(matrix) if matrix.ndim == 1 else matrix
    seen = np.ones(tuple(native_shape), bool)
    for axis, size in enumerate(model_shape):
        index = np.full((1,) * len(native_shape), offset[axis])
        for other, length in enumerate(native_shape):
            if full[axis, other]:
                along = np.arange(length, dtype=np.float64) * full[axis, other]
                index = index + along.reshape([-1 if a == other else 1 for a in range(len(native_shape))])
        seen &= (index >= -0.5 - 1e-9) & (index <= size - 0.5 + 1e-9)
    return seen


def _model_from_native(
    native_from_model: npt.NDArray[np.float64], dimensions: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Inverse transform as scipy takes it: a vector where axes are only scaled, which is much faster."""
    transform = np.asarray(native_from_model, np.float64)
    if transform.shape != (dimensions + 1, dimensions + 1):
        raise MethodError(
            f"a {dimensions}D map needs a {dimensions + 1}×{dimensions + 1} transform, got {transform.shape}",
            "pass the transform of the prepared image",
        )
    try:
        inverse = np.linalg.inv(transform)
    except np.linalg.LinAlgError as error:
        raise MethodError(
            "the transform to native pixels cannot be inverted", "prepare the image again"
        ) from error
    matrix: npt.NDArray[np.float64] = inverse[:-1, :-1].astype(np.float64)
    offset: npt.NDArray[np.float64] = inverse[:-1, -1].astype(np.float64)
    scaled_only = np.allclose(matrix, np.diag(np.diag(matrix)), rtol=0, atol=1e-12)
    return (np.diag(matrix).copy() if scaled_only else matrix), offset

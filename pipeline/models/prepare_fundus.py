"""A fundus photograph on a model's square grid, and the way back to its native pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.errors import ModelError

if TYPE_CHECKING:
    from pipeline.anatomy.retina import FieldOfView
    from pipeline.images.types import FloatArray, Photograph
    from pipeline.models.card import Preprocessing
    from pipeline.models.prepared import Prepared


def prepare_fundus(
    photograph: Photograph, preprocessing: Preprocessing, *, view: FieldOfView | None = None
) -> Prepared:
    """Crop the field of view's bounding square, resize it and scale its colours.

    Where the picture cuts the circle the square is padded with black. Shrinking averages over the pixels
    that fall into one (a triangle filter), so that a small lesion dims and does not vanish.

    Parameters
    ----------
    photograph : Photograph
    preprocessing : Preprocessing
        Of kind `fundus_square`: `shape` (rows and columns), `mean`, `std` per channel.
    view : FieldOfView, optional
        Found in the photograph if not given.

    Returns
    -------
    Prepared
        `field` is the part of the circle within the picture; `native_from_model` takes model-grid
        (row, column) to native (row, column).

    Raises
    ------
    pipeline.errors.ModelError
        If the preprocessing is not one for photographs.
    pipeline.errors.AnatomyError
        If no field of view is found.
    """
    import torch

    from pipeline.anatomy.retina import field_of_view
    from pipeline.models.prepared import Prepared

    if preprocessing.kind != "fundus_square" or len(preprocessing.shape) != 2:
        raise ModelError(
            f"preprocessing {preprocessing.kind!r} with shape {preprocessing.shape} is not for photographs",
            "use kind 'fundus_square' with rows and columns",
        )
    view = field_of_view(photograph) if view is None else view
    shape = (preprocessing.shape[0], preprocessing.shape[1])
    transform = square_transform(view, shape)
    data = _resample_square(photograph.data, view, shape)
    data = (data - np.asarray(preprocessing.mean)) / np.asarray(preprocessing.std)
    tensor = torch.from_numpy(np.ascontiguousarray(data.transpose(2, 0, 1), dtype=np.float32))
    rows = transform[0, 0] * np.arange(shape[0]) + transform[0, 2]
    columns = transform[1, 1] * np.arange(shape[1]) + transform[1, 2]
    field = (rows[:, None] - view.row) ** 2 + (columns[None] - view.column) ** 2 <= view.radius**2
    field &= ((rows >= -0.5) & (rows <= view.shape[0] - 0.5))[:, None]
    field &= ((columns >= -0.5) & (columns <= view.shape[1] - 0.5))[None]
    return Prepared(
        tensor=tensor[None],
        native_from_model=transform,
        native_shape=photograph.shape,
        field=field,
    )


def square_transform(view: FieldOfView, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Homogeneous transform of the field's bounding square: model-grid pixel centre → native index.

    Parameters
    ----------
    view : FieldOfView
    shape : tuple of int
        Rows and columns of the model's grid.

    Returns
    -------
    ndarray of float64, shape (3, 3)
    """
    down, right = (2 * view.radius / n for n in shape)
    return np.array(
        [
            [down, 0.0, view.row - view.radius + 0.5 * down],
            [0.0, right, view.column - view.radius + 0.5 * right],
            [0.0, 0.0, 1.0],
        ]
    )


def _resample_square(data: FloatArray, view: FieldOfView, shape: tuple[int, int]) -> FloatArray:
    """Resample the bounding square to `shape`, black beyond the picture; (rows, columns, channels)."""
    from PIL import Image

    top, left = view.row - view.radius + 0.5, view.column - view.radius + 0.5  # edges, not centres
    side = 2 * view.radius
    pads = [
        (max(0, int(np.ceil(-low)) + 1), max(0, int(np.ceil(low + side - n)) + 1))
        for low, n in zip((top, left), view.shape, strict=True)
    ]
    box = (left + pads[1][0], top + pads[0][0], left + pads[1][0] + side, top + pads[0][0] + side)
    channels = []
    for channel in range(data.shape[2]):
        padded = np.pad(data[:, :, channel], pads)
        picture = Image.fromarray(padded)
        resized = picture.resize((shape[1], shape[0]), Image.Resampling.BILINEAR, box=box)
        channels.append(np.asarray(resized, dtype=np.float32))
    return np.stack(channels, axis=-1)

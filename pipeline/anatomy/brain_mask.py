"""Where the brain is, in a skull-stripped image or in a whole head."""

from __future__ import annotations

import numpy as np

from pipeline.errors import AnatomyError
from pipeline.images.types import BoolArray, FloatArray, Volume

LARGEST_BRAIN_MM3 = 2.6e6


def brain_mask(volume: Volume) -> BoolArray:
    """Find the brain on the image's own grid.

    A skull-stripped image is its largest piece above 5 % of its brightness, holes filled, so that dark
    ventricles, small negative values and marks far from the brain do no harm. More than 2.6 l is a head
    with its skull (the template's brain holds 1.9 l): then the largest piece that remains when thin
    bridges are cut is taken.

    Parameters
    ----------
    volume : Volume

    Returns
    -------
    ndarray of bool, shape (X, Y, Z)

    Raises
    ------
    pipeline.errors.AnatomyError
        If nothing in the image is brighter than its background.
    """
    from scipy.ndimage import binary_fill_holes

    data = np.nan_to_num(np.asarray(volume.data, np.float32))
    bright = float(np.percentile(data[data > 0], 98)) if (data > 0).any() else 0.0
    if bright <= 0:
        raise AnatomyError(f"{volume.name or 'image'}: nothing in it is bright", "check the file")
    body = np.asarray(binary_fill_holes(_largest(data > 0.05 * bright)))
    if body.sum() * np.prod(volume.spacing) > LARGEST_BRAIN_MM3:
        return _cut_free(data, body, volume.spacing)
    return body


def _largest(mask: BoolArray) -> BoolArray:
    from scipy.ndimage import label

    pieces, count = label(mask)
    if count <= 1:
        return mask
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray(pieces == sizes.argmax())


def _cut_free(data: FloatArray, body: BoolArray, spacing: tuple[float, float, float]) -> BoolArray:
    """Take the brain out of a head: erode by 5 mm, keep the largest piece, grow it back."""
    from scipy.ndimage import binary_fill_holes, distance_transform_edt
    from skimage.filters import threshold_otsu

    tissue = body & (data > 0.8 * threshold_otsu(data[body]))
    core = _largest(distance_transform_edt(tissue, sampling=spacing) > 5.0)
    near = distance_transform_edt(~core, sampling=spacing) <= 6.5
    grown = near & (tissue | (distance_transform_edt(~core, sampling=spacing) <= 4.0)) & body
    return np.asarray(binary_fill_holes(_largest(grown)))

"""Where the brain is, in a skull-stripped image or in a whole head."""

from __future__ import annotations

import numpy as np

from pipeline.errors import AnatomyError
from pipeline.images.types import BoolArray, FloatArray, Volume

LARGEST_BRAIN_MM3 = 2.6e6  # more is a head with its skull: the template's brain holds 1.9 l
SMALLEST_HEAD_MM3 = 1.3e6
HEAD_SHARE = 0.42  # a head keeps less of itself than that when thin bridges are cut, a stripped brain more


def brain_mask(volume: Volume) -> BoolArray:
    """Find the brain on the image's own grid.

    A skull-stripped image is its largest piece above 5 % of its brightness, holes filled, so that dark
    ventricles, small negative values and marks far from the brain do no harm. More than 2.6 l is a head
    with its skull. From 1.3 l it is one if it falls apart when thin bridges are cut (less than 42 % is left
    of it, judged at 3 mm; 29–31 % of the one head and 51 % or more of the brains tried). Of a head, the
    largest piece then is the brain.

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
    size = body.sum() * np.prod(volume.spacing)
    if size > LARGEST_BRAIN_MM3 or (size > SMALLEST_HEAD_MM3 and _falls_apart(data, body, volume.spacing)):
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


def _falls_apart(data: FloatArray, body: BoolArray, spacing: tuple[float, float, float]) -> bool:
    """Whether cutting thin bridges leaves little of it, judged at about 3 mm."""
    strides = [max(1, round(3 / step)) for step in spacing]
    x, y, z = (slice(None, None, stride) for stride in strides)
    dx, dy, dz = (step * stride for step, stride in zip(spacing, strides, strict=True))
    left = _cut_free(data[x, y, z], body[x, y, z], (dx, dy, dz))
    return bool(left.sum() < HEAD_SHARE * body[x, y, z].sum())


def _cut_free(data: FloatArray, body: BoolArray, spacing: tuple[float, float, float]) -> BoolArray:
    """Take the brain out of a head: erode by 5 mm, keep the largest piece, grow it back."""
    from scipy.ndimage import binary_fill_holes, distance_transform_edt
    from skimage.filters import threshold_otsu

    if not body.any():
        return body
    tissue = body & (data > 0.8 * threshold_otsu(data[body]))
    core = _largest(distance_transform_edt(tissue, sampling=spacing) > 5.0)
    near = distance_transform_edt(~core, sampling=spacing) <= 6.5
    grown = near & (tissue | (distance_transform_edt(~core, sampling=spacing) <= 4.0)) & body
    return np.asarray(binary_fill_holes(_largest(grown)))

"""Where the brain is, in a skull-stripped image or in a whole head."""

from __future__ import annotations

import numpy as np

from pipeline.errors import AnatomyError
from pipeline.images.types import BoolArray, FloatArray, Volume


def brain_mask(volume: Volume) -> BoolArray:
    """Find the brain on the image's own grid.

    A skull-stripped image is its largest piece above 5 % of its brightness, holes filled, so that dark
    ventricles, small negative values and marks far from the brain do no harm. Where brightness falls
    again below a bright surface there is a skull under a scalp: then the largest piece that remains when
    thin bridges are cut is taken.

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
    if _has_skull(data, body, volume.spacing):
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


def _has_skull(data: FloatArray, body: BoolArray, spacing: tuple[float, float, float]) -> bool:
    """Whether brightness falls by a fifth or more somewhere below the surface."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(body, sampling=spacing)
    step = max(2.0, *spacing)
    edges = np.arange(0, 18, step)
    profile = [
        float(np.median(data[shell]))
        for low in edges
        if (shell := (depth > low) & (depth <= low + step)).sum() > 50
    ]
    peak = 0.0
    for value in profile:
        if value < 0.8 * peak:
            return True
        peak = max(peak, value)
    return False


def _cut_free(data: FloatArray, body: BoolArray, spacing: tuple[float, float, float]) -> BoolArray:
    """Take the brain out of a head: erode by 5 mm, keep the largest piece, grow it back."""
    from scipy.ndimage import binary_fill_holes, distance_transform_edt
    from skimage.filters import threshold_otsu

    tissue = body & (data > 0.8 * threshold_otsu(data[body]))
    core = _largest(distance_transform_edt(tissue, sampling=spacing) > 5.0)
    near = distance_transform_edt(~core, sampling=spacing) <= 6.5
    grown = near & (tissue | (distance_transform_edt(~core, sampling=spacing) <= 4.0)) & body
    return np.asarray(binary_fill_holes(_largest(grown)))

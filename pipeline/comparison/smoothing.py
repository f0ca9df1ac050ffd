"""Smoothing of maps, fixed in the protocol before anything is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[Any]


def smoothed(relevance: Array, width: float) -> Array:
    """Gaussian smoothing that keeps the total relevance.

    Convolutions with stride 2 leave a checkerboard in back-propagated maps. Whether it is smoothed away
    decides about every metric, so the width is set in the protocol and is the same for all methods, twins and
    nulls. Signed relevance is smoothed before its positive part is taken: neighbours of opposite sign cancel.

    Parameters
    ----------
    relevance : ndarray, shape spatial
        Signed relevance.
    width : float
        Standard deviation in pixels of the map's grid; 0 leaves the map as it is.

    Returns
    -------
    ndarray, shape spatial
        In the dtype of ``relevance``.
    """
    if width <= 0:
        return relevance
    result: Array = ndimage.gaussian_filter(relevance, width, mode="reflect")
    return result


def checkerboard(relevance: Array) -> float:
    """Share of a map's variance in its alternating component along any axis.

    Parameters
    ----------
    relevance : ndarray, shape spatial
        Signed relevance; odd axes lose their last line.

    Returns
    -------
    float
        Variance within blocks of two pixels a side over the variance of the map: near 1 for a checkerboard or
        white noise (1 − 2⁻ᴰ for the latter), near 0 for a smooth map, NaN for a constant one.
    """
    even = relevance[tuple(slice(0, size - size % 2) for size in relevance.shape)].astype(np.float64)
    variance = float(even.var())
    if even.size == 0 or variance == 0:
        return float("nan")
    blocks = even.reshape([part for size in even.shape for part in (size // 2, 2)])
    means = blocks.mean(axis=tuple(range(1, 2 * even.ndim, 2)))
    return 1 - float(means.var()) / variance

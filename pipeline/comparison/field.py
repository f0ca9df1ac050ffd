"""How much relevance lies outside the brain or field of view, and in its rim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.errors import MethodError

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FieldShares:
    """Where a map's relevance lies with respect to the field.

    Attributes
    ----------
    outside : float
        Share of |R| outside the field; NaN for a map that is zero everywhere.
    rim : float
        Share of the |R| inside the field that lies in its rim.
    log2_rim_density : float
        log₂ of |R| per pixel in the rim over |R| per pixel in the whole field; 0 is even.
    excluded : str
        Why a value is undefined, or ''.
    """

    outside: float
    rim: float
    log2_rim_density: float
    excluded: str = ""


def field_shares(
    relevance: Array, field: Mask, *, rim: float = 8.0, spacing: float | Sequence[float] = 1.0
) -> FieldShares:
    """Measure the relevance outside the field and in its rim.

    Parameters
    ----------
    relevance : ndarray, shape spatial
        Signed relevance; both signs count, since a shortcut may speak for either class.
    field : ndarray of bool, shape spatial
        Brain or field of view.
    rim : float, default 8
        Width of the rim inside the field, in the unit of ``spacing``.
    spacing : float or sequence of float, default 1
        Pixel size.

    Returns
    -------
    FieldShares

    Raises
    ------
    MethodError
        If shapes differ, the field is empty or the map is not finite.
    """
    if relevance.shape != field.shape or not field.any():
        raise MethodError(
            "the field is empty or of another shape than the map", "use the prepared image's field"
        )
    size = np.abs(relevance.astype(np.float64))
    total = float(size.sum())
    if not np.isfinite(total):
        raise MethodError("the relevance map is not finite", "report the method and the case")
    if total == 0:
        return FieldShares(np.nan, np.nan, np.nan, "the map is zero everywhere")
    border = rim_of(field, rim, spacing)
    inside, outside = float(size[field].sum()), float(size[~field].sum())
    if inside == 0:
        return FieldShares(1.0, np.nan, np.nan, "the map is zero inside the field")
    share = float(size[border].sum()) / inside
    even = border.sum() / field.sum()
    lift = float(np.log2(share / even)) if share > 0 and even > 0 else float("nan")
    return FieldShares(outside / total, share, lift, "" if share > 0 else "no relevance in the rim")


def rim_of(field: Mask, width: float, spacing: float | Sequence[float] = 1.0) -> Mask:
    """Pixels of the field within ``width`` of its outside; the image's own border is no rim.

    Parameters
    ----------
    field : ndarray of bool, shape spatial
        Brain or field of view.
    width : float
        In the unit of ``spacing``.
    spacing : float or sequence of float, default 1
        Pixel size.

    Returns
    -------
    ndarray of bool, shape spatial
    """
    if field.all():
        return np.zeros_like(field)
    sampling = np.broadcast_to(np.asarray(spacing, float), (field.ndim,))
    distance = ndimage.distance_transform_edt(field, sampling=sampling)
    rim: Mask = field & (distance <= width)
    return rim


def extend_beyond(image: Array, field: Mask, blend: float = 4.0) -> npt.NDArray[np.float32]:
    """Go on beyond the field with its own content, so that filters see no edge at the rim.

    Every pixel outside takes the Gaussian-weighted mean of the field around its nearest field pixel.

    Parameters
    ----------
    image : ndarray, shape spatial
        One channel.
    field : ndarray of bool, shape spatial
        Where the image is valid.
    blend : float, default 4
        Width of that mean in pixels.

    Returns
    -------
    ndarray of float32, shape spatial
        Equal to the image inside the field.

    Raises
    ------
    MethodError
        If shapes differ or the field is empty.
    """
    if image.shape != field.shape or not field.any():
        raise MethodError(
            "the field is empty or of another shape than the image", "use the prepared image's field"
        )
    if field.all():
        return image.astype(np.float32)
    valid = field.astype(np.float32)
    weight = ndimage.gaussian_filter(valid, blend)
    mean = ndimage.gaussian_filter(np.where(field, image, 0).astype(np.float32), blend)
    mean = np.divide(mean, weight, out=np.zeros_like(mean), where=weight > 0)
    nearest = ndimage.distance_transform_edt(~field, return_distances=False, return_indices=True)
    return np.where(field, image, mean[tuple(nearest)]).astype(np.float32)

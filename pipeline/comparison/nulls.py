"""Maps that know nothing of the model: what a relevance map has to beat before it means anything.

All are non-negative, on the same grid as the relevance maps, and 0 outside the field. Filters see the image
continued beyond the field, since its rim is an edge that no clinician marked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.comparison.field import extend_beyond
from pipeline.errors import MethodError

Array = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Map = npt.NDArray[np.float32]

IMAGE_NULLS = ("centre", "random", "sobel", "contrast")
"""Null maps that need nothing but the case's own image and field."""


def null_maps(image: Array, field: Mask, *, seed: int) -> dict[str, Map]:
    """Every null map that needs only the image itself.

    Parameters
    ----------
    image : ndarray, shape spatial or (C, *spatial)
        What the model was given; of three channels the second (green) is taken, of others the mean.
    field : ndarray of bool, shape spatial
        Brain or field of view.
    seed : int
        Of the random map; derive it from the case so that every case gets its own.

    Returns
    -------
    dict of str to ndarray of float32, shape spatial
        In the order of `IMAGE_NULLS`.
    """
    grey = single_channel(image, field.ndim)
    return {
        "centre": centre_prior(field),
        "random": random_smooth(field, seed=seed),
        "sobel": sobel(grey, field),
        "contrast": local_contrast(grey, field),
    }


def single_channel(image: Array, dimensions: int) -> Array:
    """Take the channel in which lesions have most contrast: green of a colour photograph, else the mean."""
    if image.ndim == dimensions:
        return image
    if image.ndim != dimensions + 1:
        raise MethodError(f"an image of shape {image.shape} for a {dimensions}D field", "give (C, *spatial)")
    channel: Array = image[1] if image.shape[0] == 3 else image.mean(axis=0)
    return channel


def centre_prior(field: Mask, width: float = 0.25) -> Map:
    """Gaussian around the field's centre of mass.

    Parameters
    ----------
    field : ndarray of bool, shape spatial
        Brain or field of view.
    width : float, default 0.25
        Standard deviation along each axis, as a share of the field's extent along it.

    Returns
    -------
    ndarray of float32, shape spatial
    """
    points = np.argwhere(field)
    if points.size == 0:
        raise MethodError("the field of view is empty", "check the brain mask or the fitted circle")
    sigma = np.maximum(np.ptp(points, axis=0) + 1, 1) * width
    distance = sum(
        np.square((axis - centre) / s)
        for axis, centre, s in zip(
            np.ogrid[tuple(map(slice, field.shape))], points.mean(axis=0), sigma, strict=True
        )
    )
    return np.where(field, np.exp(-0.5 * distance), 0).astype(np.float32)


def random_smooth(field: Mask, *, seed: int, width: float = 0.05) -> Map:
    """Positive part of smoothed white noise.

    Parameters
    ----------
    field : ndarray of bool, shape spatial
        Brain or field of view.
    seed : int
        Of the noise.
    width : float, default 0.05
        Standard deviation of the smoothing, as a share of the grid's longest axis.

    Returns
    -------
    ndarray of float32, shape spatial
    """
    noise = np.random.default_rng(seed).standard_normal(field.shape, np.float32)
    smooth = ndimage.gaussian_filter(noise, width * max(field.shape), mode="wrap")
    return np.where(field, np.maximum(smooth, 0), 0).astype(np.float32)


def sobel(image: Array, field: Mask) -> Map:
    """Magnitude of the Sobel gradient, without the field's own rim.

    Parameters
    ----------
    image : ndarray, shape spatial
        One channel.
    field : ndarray of bool, shape spatial
        Brain or field of view.

    Returns
    -------
    ndarray of float32, shape spatial
    """
    extended = extend_beyond(image, field)
    squared = sum(np.square(ndimage.sobel(extended, axis, mode="nearest")) for axis in range(field.ndim))
    return np.where(field, np.sqrt(squared), 0).astype(np.float32)


def local_contrast(image: Array, field: Mask, sigma: float = 8.0) -> Map:
    """|G − blur(G)|: what differs from its surroundings, for whatever reason.

    On fundus photographs it beat every relevance map as a detector of lesions.

    Parameters
    ----------
    image : ndarray, shape spatial
        One channel.
    field : ndarray of bool, shape spatial
        Brain or field of view.
    sigma : float, default 8
        Standard deviation of the blur in pixels of the model's grid.

    Returns
    -------
    ndarray of float32, shape spatial
    """
    extended = extend_beyond(image, field)
    difference = np.abs(extended - ndimage.gaussian_filter(extended, sigma, mode="nearest"))
    return np.where(field, difference, 0).astype(np.float32)

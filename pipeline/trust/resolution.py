"""How fine a map is: the width of its autocorrelation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

from pipeline.trust.field import checked

Floats = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
HALF = 0.5


@dataclass(frozen=True)
class Width:
    """Width of a map's autocorrelation, the effective size of its cells.

    Attributes
    ----------
    axes : tuple of float
        Full width at half maximum along each axis, pixels; NaN where it does not fall to one half.
    pixels : float
        Their geometric mean; NaN if one is.
    size : float
        The same in the unit of `spacing`.
    """

    axes: tuple[float, ...]
    pixels: float
    size: float


def autocorrelation_width(
    values: npt.ArrayLike, field: BoolArray | None = None, spacing: npt.ArrayLike = 1.0
) -> Width:
    """Measure the full width at half maximum of a map's autocorrelation.

    The map's mean over the field is taken off. Along each axis the products of all pairs of field pixels at
    one distance are averaged, so that the border of the field does not count as relevance; distance 0 is 1.
    Between whole distances it is interpolated linearly. Independent values in single pixels give 1, in cells
    of `b` pixels `b`; white noise under a Gaussian of standard deviation σ gives 4 √(ln 2) σ = 3.33 σ.

    Parameters
    ----------
    values : array, shape spatial
        Relevance, one channel, signed: what is drawn.
    field : ndarray of bool, shape spatial, optional
        Brain or field of view; everything if absent.
    spacing : float or array, shape (D,), default 1
        Pixel size along each axis.

    Returns
    -------
    Width
        NaN for a map that is constant in the field.

    Raises
    ------
    MethodError
        If shapes differ, the field is empty or the map is not finite in it.
    """
    inside, (a,) = checked(field, values, finite=True)
    steps = np.broadcast_to(np.asarray(spacing, np.float64), (a.ndim,))
    nothing = Width((float("nan"),) * a.ndim, float("nan"), float("nan"))
    if np.ptp(a[inside]) == 0:
        return nothing
    box = tuple(slice(int(p.min()), int(p.max()) + 1) for p in np.nonzero(inside))
    a, inside = a[box], inside[box]
    centred = np.where(inside, a - a[inside].mean(), 0.0)
    centred /= np.abs(centred).max()
    axes = tuple(_half_width(*_profile(centred, inside, axis)) for axis in range(a.ndim))
    return Width(
        axes,
        float(np.exp(np.mean(np.log(axes)))),
        float(np.exp(np.mean(np.log(np.multiply(axes, steps))))),
    )


def _profile(centred: Floats, inside: BoolArray, axis: int) -> tuple[Floats, Floats]:
    """Sum of products, and number of pairs of field pixels, at every distance along an axis."""
    length = centred.shape[axis]
    return (
        _products(np.moveaxis(centred, axis, -1).reshape(-1, length)),
        np.rint(_products(np.moveaxis(inside, axis, -1).reshape(-1, length).astype(np.float64))),
    )


def _products(rows: Floats) -> Floats:
    """Autocorrelation of rows, summed over them, at distances 0 … length − 1; by Fourier transform."""
    length = rows.shape[1]
    padded = fft.next_fast_len(2 * length - 1, real=True)
    power = np.zeros(padded // 2 + 1)
    for start in range(0, len(rows), 4096):  # bounded memory: a brain has ten thousand rows
        spectrum = fft.rfft(rows[start : start + 4096], padded, axis=1)
        power += (spectrum.real**2 + spectrum.imag**2).sum(axis=0)
    made: Any = fft.irfft(power, padded)[:length]
    return np.asarray(made, np.float64)


def _half_width(products: Floats, pairs: Floats) -> float:
    """Twice the distance at which the mean product falls to one half of that at distance 0."""
    level = products[0] / pairs[0]
    mean = np.divide(products, pairs * level, out=np.full(products.shape, np.nan), where=pairs > 0)
    below = np.flatnonzero(mean <= HALF)
    if not below.size:
        return float("nan")
    after = int(below[0])
    left, right = mean[after - 1], mean[after]
    return 2 * float(after - 1 + (left - HALF) / (left - right)) if np.isfinite(left) else float("nan")

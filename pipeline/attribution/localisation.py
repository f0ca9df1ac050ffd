"""From a relevance map to a segment of the image: weakly supervised localisation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.attribution.registry import choice, number
from pipeline.errors import MethodError

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_CELLS = 65536  # the random walker is run on at most so many cells; larger images are shrunk for it
_CONTRAST = 20.0  # how much an edge of the image holds the walker back


@dataclass(frozen=True, eq=False)
class Localisation:
    """Where a map says the evidence is.

    Attributes
    ----------
    mask : ndarray of bool, shape spatial
        The segment.
    box : tuple of (int, int), one an axis
        Bounding box of its largest connected part, first and last + 1.
    foreground, background : float
        Levels of the map: above the first is surely in, at or below the second surely out. Equal for Otsu.
    method : {"simonyan", "otsu"}
    """

    mask: Mask
    box: tuple[tuple[int, int], ...]
    foreground: float
    background: float
    method: str


def localise(
    relevance: Any,
    image: Any,
    *,
    method: str = "simonyan",
    sign: str = "positive",
    field: Any = None,
    foreground: float = 0.95,
    background: float = 0.30,
) -> Localisation:
    """Segment the evidence that a relevance map points at.

    `"simonyan"`: pixels above the 95th percentile of the map are seeds of the object, those at or below the
    30th are seeds of the background, and what lies between follows the image's own edges (random walker,
    Grady 2006, in place of the paper's GraphCut: the same role, deterministic, and the same in 3D).
    `"otsu"`: Otsu's threshold of the map; the image plays no part.

    Parameters
    ----------
    relevance : array or tensor, shape spatial or (1 or C, *spatial)
        Channels are summed (by largest absolute value with `sign="absolute"`).
    image : array or tensor, shape (C, *spatial)
    sign : {"positive", "absolute"}
        Which relevance counts: that in favour of the target, or any (gradients).
    field : array of bool, shape spatial, optional
        Brain or field of view: percentiles are taken inside it, nothing outside is segmented.
    foreground, background : float
        Quantiles. Objects smaller than 5 % of the field need a higher `foreground`.

    Raises
    ------
    pipeline.errors.MethodError
        If shapes do not fit, or the map has nothing to point at.

    References
    ----------
    Simonyan, Vedaldi & Zisserman 2013, arXiv:1312.6034, section 3.2; Grady 2006, IEEE TPAMI 28(11)
    """
    choice("method", method, ("simonyan", "otsu"))
    choice("sign", sign, ("positive", "absolute"))
    number("foreground", foreground, low=0, high=1)
    number("background", background, low=0, high=foreground)
    pixels = np.asarray(image, dtype=np.float64)
    values = _one_channel(np.asarray(relevance, dtype=np.float64), pixels.ndim - 1, sign)
    inside = np.ones(values.shape, bool) if field is None else np.asarray(field, bool)
    if pixels.shape[1:] != values.shape or inside.shape != values.shape:
        raise MethodError(
            f"map {values.shape}, image {pixels.shape} and field {inside.shape} do not fit",
            "bring them on one grid first",
        )
    if not inside.any() or not np.isfinite(values[inside]).all() or values[inside].max() <= 0:
        raise MethodError("the map has no relevance to localise inside the field", "try another target")
    if method == "otsu":
        from skimage.filters import threshold_otsu

        within = values[inside]
        high = low = float(threshold_otsu(within)) if within.min() < within.max() else 0.0
        mask = (values > high) & inside
    else:
        low, high = (float(q) for q in np.quantile(values[inside], (background, foreground)))
        high = min(high, float(np.nextafter(values[inside].max(), 0)))  # the highest pixel is always a seed
        mask = _grown(values, pixels, inside, low, high)
    return Localisation(mask, _box(mask), high, low, method)


def _one_channel(values: Floats, dims: int, sign: str) -> Floats:
    if values.ndim == dims + 1:
        values = values.sum(0) if sign == "positive" else np.abs(values).max(0)
    counted: Floats = np.abs(values) if sign == "absolute" else np.maximum(values, 0)
    return counted


def _grown(values: Floats, pixels: Floats, inside: Mask, low: float, high: float) -> Mask:
    """Let seeds grow along the image: 1 object, 2 background, 0 undecided, −1 outside."""
    from skimage.segmentation import random_walker
    from skimage.transform import resize

    seeds = np.zeros(values.shape, np.int32)
    seeds[values <= low] = 2
    seeds[values > high] = 1
    seeds[~inside] = -1
    sure: Mask = seeds == 1
    if not (seeds == 2).any() or not (seeds == 0).any():
        return sure
    shrink = max(1, int(np.ceil((values.size / _CELLS) ** (1 / values.ndim))))
    step = (slice(None, None, shrink),) * values.ndim
    small = tuple(len(range(0, n, shrink)) for n in values.shape)
    coarse = (
        pixels if shrink == 1 else np.stack([resize(c, small, order=1, anti_aliasing=True) for c in pixels])
    )
    known = seeds[step].copy()
    if not (known == 1).any() or not (known == 2).any():
        return sure
    spread = coarse.std(axis=tuple(range(1, coarse.ndim)), keepdims=True)
    coarse = coarse / np.where(spread > 0, spread, 1)
    with warnings.catch_warnings():
        # a probability may leave 0–1 by its tolerance: only which side of one half it is on counts here
        warnings.filterwarnings("ignore", "The probability range is outside", UserWarning)
        probability = random_walker(
            np.moveaxis(coarse, 0, -1),
            known,
            beta=_CONTRAST,
            mode="cg_j",
            tol=1e-5,
            channel_axis=-1,
            return_full_prob=True,
        )[0]
    fine = probability if shrink == 1 else resize(probability, values.shape, order=1)
    grown: Mask = np.where(seeds == 0, fine > 0.5, seeds == 1) & inside
    return grown


def _box(mask: Mask) -> tuple[tuple[int, int], ...]:
    from skimage.measure import label, regionprops

    parts = regionprops(label(mask))
    if not parts:
        return tuple((0, 0) for _ in mask.shape)
    box = max(parts, key=lambda part: part.area).bbox
    return tuple(zip(box[: mask.ndim], box[mask.ndim :], strict=True))

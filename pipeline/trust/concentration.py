"""How concentrated a map is: on few pixels, on few regions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import MethodError
from pipeline.trust.field import checked

BoolArray = npt.NDArray[np.bool_]
SHARE = 0.8


@dataclass(frozen=True)
class RegionCount:
    """How many regions hold most of the relevance.

    Attributes
    ----------
    needed : int
        The fewest regions that together hold the share; 0 for a map that is zero in all of them.
    even : int
        As many as a map would need that is the same everywhere: large regions hold more.
    present : int
        Regions of this image.
    """

    needed: int
    even: int
    present: int


def gini(values: npt.ArrayLike, field: BoolArray | None = None) -> float:
    """Gini index of |R| in a field: 0 where all pixels carry the same, 1 − 1/n where one of n carries all.

    Σ_i (2 i − n − 1) |R|_(i) / (n Σ |R|) over the values in ascending order (Hurley and Rickard 2009, as a
    measure of sparsity; arXiv:0811.4706).

    Parameters
    ----------
    values : array, shape spatial
        Relevance, one channel.
    field : ndarray of bool, shape spatial, optional
        Brain or field of view; everything if absent.

    Returns
    -------
    float
        NaN for a map that is zero in the field.

    Raises
    ------
    MethodError
        If shapes differ, the field is empty or the map is not finite in it.
    """
    inside, (a,) = checked(field, values, finite=True)
    size = np.sort(np.abs(a[inside]))
    largest = float(size[-1])
    if largest == 0:
        return float("nan")
    size /= largest
    n = len(size)
    rank = np.arange(1, n + 1, dtype=np.float64)
    return float(((2 * rank - n - 1) * size).sum() / (n * size.sum()))


def regions_to_share(
    relevance: Mapping[int, float], volume: Mapping[int, float], share: float = SHARE
) -> RegionCount:
    """Count the regions that hold a share of the relevance, the richest first.

    Parameters
    ----------
    relevance : mapping of int to float
        Label → relevance of the region, of either sign: its size counts.
    volume : mapping of int to float
        Label → pixels or mm³, the same labels.
    share : float, default 0.8

    Returns
    -------
    RegionCount

    Raises
    ------
    MethodError
        If the labels differ, or a share is not between 0 and 1.
    """
    if set(relevance) != set(volume) or not 0 < share <= 1:
        raise MethodError("relevance and volume are of other regions", "give both for the same labels")
    labels = sorted(label for label in volume if volume[label] > 0)
    return RegionCount(
        needed=_fewest([abs(relevance[label]) for label in labels], share),
        even=_fewest([volume[label] for label in labels], share),
        present=len(labels),
    )


def relevance_in_regions(
    values: npt.ArrayLike, labels: npt.NDArray[np.integer[Any]]
) -> tuple[dict[int, float], dict[int, float]]:
    """Sum |R| over every region, and count its pixels.

    Parameters
    ----------
    values : array, shape spatial
    labels : ndarray of int, shape spatial
        0 is no region.

    Returns
    -------
    relevance, volume : dict of int to float
        Label → Σ|R|, and → pixels.
    """
    a = np.abs(np.asarray(values, np.float64)).ravel()
    flat = np.asarray(labels).ravel()
    if a.shape != flat.shape:
        raise MethodError("the map and the regions are of different shape", "use one grid")
    present, place = np.unique(flat, return_inverse=True)
    sums, counts = np.bincount(place, a), np.bincount(place)
    kept = [(int(label), k) for k, label in enumerate(present) if label > 0]
    return {n: float(sums[k]) for n, k in kept}, {n: float(counts[k]) for n, k in kept}


def _fewest(sizes: list[float], share: float) -> int:
    """How many of the largest sizes reach a share of their sum (rounding may not ask for one more)."""
    running = np.cumsum(sorted(sizes, reverse=True))
    if not running.size or running[-1] == 0:
        return 0
    return int(np.flatnonzero(running >= share * running[-1] * (1 - 1e-12))[0]) + 1

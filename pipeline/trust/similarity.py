"""How alike two relevance maps are: structural similarity and rank correlation, within the anatomy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from skimage.metrics import structural_similarity

from pipeline.trust.field import checked

Floats = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

BRIGHTEST = 99.0
"""Percentile of |R| that is taken for full strength: a few extreme pixels do not set the scale."""
WINDOW = 7
"""Side of the window of structural similarity, pixels (Wang et al. 2004; the default of scikit-image)."""


@dataclass(frozen=True)
class Similarity:
    """How alike two maps are: 1 for equal ones, about 0 for unrelated ones.

    Attributes
    ----------
    ssim : float
        Structural similarity of their strength |R|, each scaled by its own 99th percentile.
    rank_absolute : float
        Spearman's rank correlation of |R|.
    rank_signed : float
        Spearman's rank correlation of R.
    """

    ssim: float
    rank_absolute: float
    rank_signed: float


class Ranked:
    """A map that is compared with several others of its image: ranked once, not at every comparison.

    Parameters
    ----------
    values : array, shape spatial
        Relevance, one channel.
    field : ndarray of bool, shape spatial, optional
        Brain or field of view; everything if absent.

    Raises
    ------
    MethodError
        If the shapes differ, or the field is empty.
    """

    def __init__(self, values: npt.ArrayLike, field: BoolArray | None = None) -> None:
        self.field, (plain,) = checked(field, values)
        self.values = np.asarray(values)
        self.ranks, self.absolute = _ranks(plain[self.field]), _ranks(np.abs(plain[self.field]))

    def like(self, other: Ranked) -> Similarity:
        """Compare with another map in the same field; NaN where one of them is constant in it."""
        a, b = (strength(one.values, self.field) for one in (self, other))
        return Similarity(
            ssim(a, b, self.field, data_range=1.0),
            _correlation(self.absolute, other.absolute),
            _correlation(self.ranks, other.ranks),
        )


def similarity(one: npt.ArrayLike, other: npt.ArrayLike, field: BoolArray | None = None) -> Similarity:
    """Compare two maps of one image, as Adebayo et al. 2018 (arXiv:1810.03292) do.

    Parameters
    ----------
    one, other : array, shape spatial
        Relevance, one channel.
    field : ndarray of bool, shape spatial, optional
        Brain or field of view: only what lies in here is compared. The black surroundings of a photograph,
        equal in both, would make any two maps alike.

    Returns
    -------
    Similarity
        NaN where a map is constant in the field.

    Raises
    ------
    MethodError
        If the shapes differ, or the field is empty.
    """
    inside, (a, b) = checked(field, one, other)
    return Ranked(a, inside).like(Ranked(b, inside))


def strength(values: npt.ArrayLike, field: BoolArray | None = None) -> Floats:
    """Scale |R| to 0–1: its 99th percentile in the field, or its maximum where that is 0, becomes 1."""
    absolute = np.abs(np.asarray(values, np.float64))
    inside = absolute if field is None else absolute[field]
    full = float(np.percentile(inside, BRIGHTEST)) or float(inside.max())
    scaled: Floats = np.clip(absolute / full, 0, 1) if full > 0 else absolute
    return scaled


def ssim(
    one: npt.ArrayLike, other: npt.ArrayLike, field: BoolArray | None = None, *, data_range: float
) -> float:
    """Mean structural similarity (Wang et al. 2004) over a field, by scikit-image.

    Parameters
    ----------
    one, other : array, shape spatial
    field : ndarray of bool, optional
        Window centres that count; all of them if absent. At the border of the image windows are mirrored.
    data_range : float
        From the smallest to the largest value that there can be.

    Returns
    -------
    float
        NaN where one of them is constant in the field.
    """
    inside, (a, b) = checked(field, one, other)
    if np.ptp(a[inside]) == 0 or np.ptp(b[inside]) == 0:
        return float("nan")
    box = _around(inside)
    a, b, inside = a[box], b[box], inside[box]
    window = min(WINDOW, *(size - 1 + size % 2 for size in a.shape))
    local: Any = structural_similarity(a, b, win_size=window, data_range=data_range, full=True)[1]
    return float(local[inside].mean())


def rank_correlation(one: npt.ArrayLike, other: npt.ArrayLike, field: BoolArray | None = None) -> float:
    """Spearman's rank correlation over a field, ties at their mean rank; NaN where one map is constant."""
    inside, (a, b) = checked(field, one, other)
    return _correlation(_ranks(a[inside]), _ranks(b[inside]))


def rank_matrix(maps: Sequence[npt.ArrayLike], field: BoolArray | None = None) -> Floats:
    """Rank correlation of every map with every other, each ranked once.

    Parameters
    ----------
    maps : sequence of array, each of shape spatial
    field : ndarray of bool, optional

    Returns
    -------
    ndarray, shape (maps, maps)
        1 on the diagonal; NaN beside a map that is constant in the field.
    """
    inside, rows = checked(field, *maps)
    ranks = [_ranks(values[inside]) for values in rows]
    matrix: Floats = np.array([[_correlation(a, b) for b in ranks] for a in ranks])
    np.fill_diagonal(matrix, 1.0)
    return matrix


def _ranks(values: Floats) -> npt.NDArray[np.float32]:
    """Ranks less their mean: whole and half numbers, exact in this type up to 16 million pixels."""
    centred: npt.NDArray[np.float32] = (stats.rankdata(values) - (len(values) + 1) / 2).astype(np.float32)
    return centred


def _correlation(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    """Correlation of centred ranks; NaN where one map is constant."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size else float("nan")


def _around(inside: BoolArray) -> tuple[slice, ...]:
    """Box around a field with room for the windows of its border."""
    where = np.nonzero(inside)
    return tuple(slice(max(0, int(i.min()) - WINDOW), int(i.max()) + 1 + WINDOW) for i in where)

"""Whether cases fall into two parts, or would be cut as clearly if they were of one kind.

Cases are cut where the squares about the two means are least (2-means). Any cases can be cut, so the cut is
compared with cuts of cases of one kind. How clear it is says the share of the scatter that stays within the
parts, the cluster index of SigClust (Liu et al. 2008, JASA 103: 1281); besides, there has to be a valley:
halfway between the parts cases must be at most half as dense as in the thinner part. A skewed distribution
is cut well too, but has no valley.

Null hypothesis: one normal distribution of any mean and covariance. Draws from the estimated one, as in
SigClust, scatter in their covariance as well, so that with twenty cases little is found. If the hypothesis
holds, then, given the covariance that the cases have, every rotation of them about their mean in the space of
cases is as likely as the one seen (Langsrud 2005, Statistics and Computing 15: 53). So the principal
components keep their variances, and only the cases' places on them are drawn: the test is exact at any number
of cases.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

COMPONENTS = 8
"""More principal components are noise."""
STARTS = 3
SMALLEST = 3
"""Parts of fewer cases are outliers."""
ROUNDS = 12
WIDTH, HALF = 0.4, 0.5
"""Of the kernel, in halves of the distance of the parts' means; how deep a valley has to be."""
DRAWS, ENOUGH = 1999, 20
BATCH = 50
ROUNDING = 1e-9


@dataclass(frozen=True)
class Cuts:
    """Cuts of several cohorts of as many cases.

    Attributes
    ----------
    second : ndarray of bool, shape (cohorts, cases)
        Who is in the second part, the smaller one.
    within : ndarray of float64, shape (cohorts,)
        Share of the squares about the mean that stays within the parts.
    valley : ndarray of float64, shape (cohorts,)
        Density halfway between the parts' means over that at the mean of the thinner part.
    """

    second: Bools
    within: Floats
    valley: Floats

    @property
    def unclear(self) -> Floats:
        """The statistic: `within` where there is a valley, else infinite. Shape (cohorts,)."""
        return np.asarray(np.where(self.valley <= HALF, self.within, np.inf), np.float64)


@dataclass(frozen=True)
class Separation:
    """Whether a cohort falls into two parts.

    Attributes
    ----------
    second : ndarray of bool, shape (cases,)
    within, valley : float
        See `Cuts`.
    null : float
        Median of `within` of the draws of one kind.
    p : float
        Share of draws that are cut as clearly.
    """

    second: Bools
    within: float
    valley: float
    null: float
    p: float


def components(features: Floats) -> Floats:
    """Coordinates on the first principal components, shape (cases, components)."""
    left, sizes, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    count = min(COMPONENTS, len(features) - 1, len(sizes))
    return np.asarray(left[:, :count] * sizes[:count], np.float64)


def cut_in_two(places: Floats) -> Cuts:
    """Cut each of several cohorts in two by 2-means.

    Parameters
    ----------
    places : ndarray of float64, shape (cohorts, cases, components)
        With mean 0; six cases or more.

    Returns
    -------
    Cuts
        The best of nine: along each of the first three components the quarter on either end, and what is
        above the mean.
    """
    cohorts, cases, width = places.shape
    begun: list[Bools] = []
    for axis in range(min(STARTS, width)):
        ranks = places[:, :, axis].argsort(axis=1).argsort(axis=1)
        quarter = max(cases // 4, SMALLEST)
        begun += [ranks < quarter, ranks >= cases - quarter, places[:, :, axis] > 0]
    sides = np.concatenate(begun)
    repeated = np.concatenate([places] * len(begun))
    for _ in range(ROUNDS):
        first, second = _means(repeated, sides)
        along = second - first
        moved = ((repeated - ((first + second) / 2)[:, None]) * along[:, None]).sum(axis=2) > 0
        count = moved.sum(axis=1)
        kept = (count < SMALLEST) | (count > cases - SMALLEST)
        moved[kept] = sides[kept]
        if np.array_equal(moved, sides):
            break
        sides = moved
    first, second = _means(repeated, sides)
    count = sides.sum(axis=1)
    between = (cases - count) * (first**2).sum(axis=1) + count * (second**2).sum(axis=1)
    between[(count < SMALLEST) | (count > cases - SMALLEST)] = -1.0
    between = between.reshape(len(begun), cohorts)
    best = between.argmax(axis=0), np.arange(cohorts)
    chosen = sides.reshape(len(begun), cohorts, cases)[best]
    chosen ^= (2 * chosen.sum(axis=1) > cases)[:, None]
    within = 1 - between[best] / (places**2).sum(axis=(1, 2))
    return Cuts(chosen, within, _valley(places, *_means(places, chosen)))


def rotated(places: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Draw cohorts of one kind that have the same variances along their components.

    Parameters
    ----------
    places : ndarray of float64, shape (cases, components)
        See `components`.
    draws : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64, shape (draws, cases, components)
        The columns of `places`, in length, in directions that are uniform (Haar) among all that are
        orthogonal to each other and to the mean.
    """
    cases, width = places.shape
    directions = rng.standard_normal((draws, cases, width))
    directions -= directions.mean(axis=1, keepdims=True)
    frames, triangle = np.linalg.qr(directions)
    signs = np.sign(np.einsum("drr->dr", triangle))
    return np.asarray(frames * (signs * np.linalg.norm(places, axis=0))[:, None], np.float64)


def separation_of(features: Floats, seed: int, draws: int = DRAWS) -> Separation:
    """Cut cases in two and ask whether cases of one kind would be cut as clearly.

    Parameters
    ----------
    features : ndarray of float64, shape (cases, cells)
        Six cases or more, not all alike.
    seed : int
    draws : int
        At most.

    Returns
    -------
    Separation
        Its p by the sequential rule of Besag and Clifford (1991): drawing stops as soon as 20 draws have
        reached what was seen. Without a valley p is 1.
    """
    places = components(features)
    found = cut_in_two(places[None])
    limit = float(found.unclear[0]) + ROUNDING
    rng = np.random.default_rng(seed)
    unclear, within = np.zeros(0), np.zeros(0)
    while len(unclear) < draws and (unclear <= limit).sum() < ENOUGH:
        made = cut_in_two(rotated(places, min(BATCH, draws - len(unclear)), rng))
        unclear = np.concatenate([unclear, made.unclear])
        within = np.concatenate([within, made.within])
    hits = np.cumsum(unclear <= limit)
    if hits[-1] >= ENOUGH:
        p = ENOUGH / (int(np.argmax(hits >= ENOUGH)) + 1)
    else:
        p = (int(hits[-1]) + 1) / (len(hits) + 1)
    return Separation(
        found.second[0], float(found.within[0]), float(found.valley[0]), float(np.median(within)), p
    )


def _means(places: Floats, second: Bools) -> tuple[Floats, Floats]:
    """Return the mean of each part, both of shape (cohorts, components)."""
    share = second[:, :, None].astype(np.float64)
    count = share.sum(axis=1)
    return (
        (places * (1 - share)).sum(axis=1) / np.maximum(places.shape[1] - count, 1),
        (places * share).sum(axis=1) / np.maximum(count, 1),
    )


def _valley(places: Floats, first: Floats, second: Floats) -> Floats:
    """Compare the density halfway with that at the means, along the line through both (−1 and 1 on it)."""
    along = second - first
    along = along * (2 / np.maximum((along**2).sum(axis=1), 1e-300))[:, None]
    at = ((places - ((first + second) / 2)[:, None]) * along[:, None]).sum(axis=2)
    middle, one, other = (np.exp(-(((at - place) / WIDTH) ** 2) / 2).sum(axis=1) for place in (0, -1, 1))
    return np.asarray(middle / np.maximum(np.minimum(one, other), 1e-300), np.float64)

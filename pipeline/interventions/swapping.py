"""Swap factors between matched cases and share the gap between the classes out among them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.comparison.statistics import FEWEST_PATIENTS, RESAMPLES, Estimate
from pipeline.interventions.shapley import shapley_values

if TYPE_CHECKING:
    import torch

    from pipeline.interventions.composition import Composition

Floats = npt.NDArray[np.float64]
Score = Callable[["torch.Tensor"], Floats]
"""From images [n, C, *spatial] to the audited score [n]: log odds of the class, in logit units."""


@dataclass(frozen=True)
class SwappedPair:
    """All coalitions of one pair.

    Attributes
    ----------
    positive, negative : str
        Patients of the two members.
    values : ndarray, shape (2**k,)
        Score of the positive case with the factors of each coalition taken from the negative one.
    """

    positive: str
    negative: str
    values: Floats


@dataclass(frozen=True)
class FactorSwap:
    """What share of the gap between the classes each factor carries.

    Attributes
    ----------
    names : tuple of str
    shares : tuple of Estimate
        Σ φ / Σ gap over the pairs; they sum to 1. Without interval where the gap is not above 0.
    gap : Estimate
        Mean difference of the score between the members of a pair, in logit units.
    contributions : ndarray, shape (pairs, k)
        Shapley value of each factor in each pair.
    gaps : ndarray, shape (pairs,)
    patients : int
    """

    names: tuple[str, ...]
    shares: tuple[Estimate, ...]
    gap: Estimate
    contributions: Floats
    gaps: Floats
    patients: int

    @property
    def conclusive(self) -> bool:
        """Whether the gap is surely above 0, so that shares mean something."""
        return bool(self.gap.low > 0)

    def share(self, name: str) -> Estimate:
        """Share of one factor."""
        return self.shares[self.names.index(name)]

    def detection_limit(self, name: str, bound: float) -> float:
        """Smallest true share of a factor that this cohort would flag in 95 of 100 audits.

        Parameters
        ----------
        name : str
        bound : float
            What the lower end of the interval has to exceed to be flagged.

        Returns
        -------
        float
            NaN without interval. Half the width of the interval found stands for its precision.
        """
        share = self.share(name)
        half = (share.high - share.low) / 2
        return float(bound + half * (1 + 1.645 / 1.960))


def swap_pair(
    composition: Composition, score: Score, positive: str, negative: str, *, batch: int = 16
) -> SwappedPair:
    """Score all coalitions of one pair; those that give the same image are computed once.

    Parameters
    ----------
    composition : Composition
        Own image: the positive case; partner: the negative one.
    score : callable
    positive, negative : str
        Patients.
    batch : int
        Images a forward pass.
    """
    import torch

    full = (1 << len(composition.names)) - 1
    moving = composition.moving
    distinct = sorted({s & moving for s in range(full + 1)})
    scores: dict[int, float] = {}
    for start in range(0, len(distinct), batch):
        chosen = distinct[start : start + batch]
        # factors that change nothing are taken along, so that the last coalition is the partner itself
        images = [composition.image(full if s == moving else s) for s in chosen]
        found = score(torch.from_numpy(np.stack(images)))
        scores |= dict(zip(chosen, map(float, found), strict=True))
    return SwappedPair(positive, negative, np.array([scores[s & moving] for s in range(full + 1)]))


def factor_swap(names: Sequence[str], pairs: Sequence[SwappedPair], *, seed: int) -> FactorSwap:
    """Share the gap out over all pairs, with intervals.

    Patients of either class are drawn with replacement, independently; a pair counts as often as both its
    members were drawn (pigeonhole bootstrap, Owen 2007, doi:10.1214/07-AOAS122, percentiles). That is on the
    wide side, since pairs that share a member are not independent.

    Parameters
    ----------
    names : sequence of str
    pairs : sequence of SwappedPair
    seed : int
        Of the bootstrap.

    Returns
    -------
    FactorSwap
        No interval below 6 patients in either class.
    """
    k = len(names)
    values = np.array([p.values for p in pairs]).reshape(len(pairs), 1 << k)
    contributions = -shapley_values(values)
    gaps = values[:, 0] - values[:, -1]
    positive, rows = np.unique([p.positive for p in pairs], return_inverse=True)
    negative, columns = np.unique([p.negative for p in pairs], return_inverse=True)
    patients = len(set(positive) | set(negative))
    fewest = min(len(positive), len(negative))
    total = float(gaps.sum())
    shares = contributions.sum(0) / total if total else np.full(k, np.nan)
    mean = float(gaps.mean()) if len(pairs) else float("nan")
    if fewest < FEWEST_PATIENTS:
        why = f"no interval: {fewest} patients in the smaller class, {FEWEST_PATIENTS} are needed"
        gap = Estimate(mean, np.nan, np.nan, patients, 0, why)
        blank = tuple(Estimate(float(s), np.nan, np.nan, patients, 0, why) for s in shares)
        return FactorSwap(tuple(names), blank, gap, contributions, gaps, patients)
    weights = _pair_weights(len(positive), len(negative), rows, columns, seed)
    drawn = weights.sum(1)
    means = weights @ gaps / drawn
    low, high = np.quantile(means, [0.025, 0.975])
    method = f"bootstrap of both members of a pair ({RESAMPLES} resamples)"
    gap = Estimate(mean, float(low), float(high), patients, 0, method)
    if not low > 0:
        why = "no interval: the gap between the classes is not surely above 0"
        blank = tuple(Estimate(float(s), np.nan, np.nan, patients, 0, why) for s in shares)
        return FactorSwap(tuple(names), blank, gap, contributions, gaps, patients)
    replicates = (weights @ contributions) / (weights @ gaps)[:, None]
    bounds = np.quantile(replicates, [0.025, 0.975], axis=0)
    found = tuple(
        Estimate(float(shares[i]), float(bounds[0, i]), float(bounds[1, i]), patients, 0, method)
        for i in range(k)
    )
    return FactorSwap(tuple(names), found, gap, contributions, gaps, patients)


def _pair_weights(
    positives: int, negatives: int, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], seed: int
) -> Floats:
    """How often each pair counts in each resample; resamples without any pair are drawn again."""
    rng = np.random.default_rng(seed)
    kept: list[Floats] = []
    count = 0
    while count < RESAMPLES:
        of_rows = rng.multinomial(positives, np.full(positives, 1 / positives), RESAMPLES)
        of_columns = rng.multinomial(negatives, np.full(negatives, 1 / negatives), RESAMPLES)
        weights = (of_rows[:, rows] * of_columns[:, columns]).astype(np.float64)
        weights = weights[weights.sum(1) > 0]
        kept.append(weights)
        count += len(weights)
    return np.concatenate(kept)[:RESAMPLES]

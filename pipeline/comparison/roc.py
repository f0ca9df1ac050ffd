"""How well a model's scores separate the classes, with an interval that survives a perfect separation."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

from pipeline.comparison.statistics import (
    FEWEST_PATIENTS,
    LEVEL,
    RESAMPLES,
    Estimate,
    Floats,
    bootstrap_interval,
)
from pipeline.errors import AuditError


def auc(scores: Floats, positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve, ties one half; NaN if a class is missing."""
    p, n = int(positive.sum()), int((~positive).sum())
    if p == 0 or n == 0:
        return float("nan")
    ranks = stats.rankdata(scores)
    return float((ranks[positive].sum() - p * (p + 1) / 2) / (p * n))


def auc_interval(
    scores: Sequence[float] | npt.NDArray[Any],
    positive: Sequence[bool] | npt.NDArray[Any],
    patients: Sequence[Hashable] | npt.NDArray[Any] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Area under the ROC curve with its 95 % interval.

    One case a patient: DeLong (1988) on the logit scale. Several cases a patient: BCa bootstrap of patients.
    At an area of exactly 0 or 1, where neither has any width: Newcombe's method 5 (2006), on patients.

    Parameters
    ----------
    scores : sequence of float, shape (cases,)
        Higher speaks for the positive class; NaN excluded.
    positive : sequence of bool, shape (cases,)
        True class.
    patients : sequence, shape (cases,), optional
        Whose case it is.
    seed, resamples : int
        Of the bootstrap.

    Returns
    -------
    Estimate
        ``n`` counts patients. No interval below 6 patients of either class.

    Raises
    ------
    AuditError
        If the lengths differ.
    """
    numbers, truth = np.asarray(scores, np.float64).ravel(), np.asarray(positive, bool).ravel()
    owners = np.arange(numbers.size) if patients is None else np.asarray(list(patients), object)
    if not numbers.size == truth.size == owners.size:
        raise AuditError(
            f"{numbers.size} scores, {truth.size} labels and {owners.size} patients",
            "give all three for every case, in the same order",
        )
    defined = ~np.isnan(numbers)
    excluded = int((~defined).sum())
    numbers, truth, owners = numbers[defined], truth[defined], owners[defined]
    value, n = auc(numbers, truth), len(set(owners))
    fewest = min(len(set(owners[truth])), len(set(owners[~truth])))
    if fewest < FEWEST_PATIENTS:
        why = f"no interval: {fewest} patients in the smaller class, {FEWEST_PATIENTS} are needed"
        return Estimate(value, np.nan, np.nan, n, excluded, why)
    if value in (0.0, 1.0):
        low, high = _newcombe(value, len(set(owners[truth])), len(set(owners[~truth])))
        return Estimate(value, low, high, n, excluded, "Newcombe's method 5, the separation is perfect")
    if n < numbers.size:
        return bootstrap_interval(
            lambda cases: auc(numbers[cases], truth[cases]),
            owners,
            excluded=excluded,
            seed=seed,
            resamples=resamples,
        )
    low, high = _delong(value, numbers, truth)
    return Estimate(value, low, high, n, excluded, "DeLong on the logit scale")


def _delong(value: float, scores: Floats, positive: npt.NDArray[np.bool_]) -> tuple[float, float]:
    of_positive, of_negative = scores[positive], scores[~positive]
    m, n = of_positive.size, of_negative.size
    both = stats.rankdata(scores)
    wins = (both[positive] - stats.rankdata(of_positive)) / n
    losses = 1 - (both[~positive] - stats.rankdata(of_negative)) / m
    error = float(np.sqrt(wins.var(ddof=1) / m + losses.var(ddof=1) / n))
    logit = np.log(value / (1 - value))
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * error / (value * (1 - value))
    low, high = 1 / (1 + np.exp(-np.array([logit - half, logit + half])))
    return float(low), float(high)


def _newcombe(value: float, m: int, n: int) -> tuple[float, float]:
    """Areas that a two-sided score test with Hanley and McNeil's variance does not refuse."""
    mean_size = (m + n) / 2 - 1
    z = float(stats.norm.ppf((1 + LEVEL) / 2))

    def excess(area: float) -> float:
        spread = 1 + mean_size * ((1 - area) / (2 - area) + area / (1 + area))
        return (value - area) ** 2 - z**2 * area * (1 - area) * spread / (m * n)

    bound = float(
        optimize.brentq(excess, 0.5, 1 - 1e-12) if value == 1 else optimize.brentq(excess, 1e-12, 0.5)
    )
    return (bound, 1.0) if value == 1 else (0.0, bound)

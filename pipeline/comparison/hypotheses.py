"""Tests by permutation: paired against a null map, unpaired between groups, corrected within a family."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from pipeline.comparison.statistics import FEWEST_PATIENTS, Estimate, Floats, by_patient, mean_interval

Alternative = Literal["two-sided", "greater"]
EXACT_UP_TO = 14
"""Up to this number of patients all 2ⁿ sign changes are tried."""


@dataclass(frozen=True)
class Test:
    """A difference with its interval and its p-value.

    Attributes
    ----------
    difference : Estimate
        Mean difference over patients.
    p : float
        p-value; NaN below 6 patients.
    method : str
        Which test, or why there is none.
    """

    __test__ = False  # not a test case for pytest

    difference: Estimate
    p: float
    method: str


def paired_test(
    values: Sequence[float] | npt.NDArray[Any],
    nulls: Sequence[float] | npt.NDArray[Any],
    patients: Sequence[Hashable] | npt.NDArray[Any] | None = None,
    *,
    alternative: Alternative = "two-sided",
    seed: int = 0,
    permutations: int = 9999,
) -> Test:
    """Difference of two values of the same cases, by sign changes of the patients' mean differences.

    Parameters
    ----------
    values, nulls : sequence of float, shape (cases,)
        NaN in either excludes the case.
    patients : sequence, shape (cases,), optional
        Whose case it is.
    alternative : {"two-sided", "greater"}
        Whether only ``values > nulls`` counts.
    seed, permutations : int
        Random sign changes where there are too many patients to try all (more than 14).

    Returns
    -------
    Test
        Exact in level if values and nulls are exchangeable. The statistic is the mean difference.
    """
    differences = np.asarray(values, np.float64) - np.asarray(nulls, np.float64)
    estimate = mean_interval(differences, patients, seed=seed)
    means, _ = by_patient(differences, patients)
    n = means.size
    if n < FEWEST_PATIENTS:
        return Test(estimate, float("nan"), f"no test: {n} patients, {FEWEST_PATIENTS} are needed")
    if n <= EXACT_UP_TO:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return Test(
            estimate, _tail(signs @ means, means.sum(), alternative, 0), "exact sign-change test by patient"
        )
    signs = _random_signs(n, permutations, seed)
    p = _tail(signs @ means, means.sum(), alternative, 1)
    return Test(estimate, p, f"sign-change test by patient ({permutations} permutations)")


@lru_cache(maxsize=2)
def _random_signs(n: int, permutations: int, seed: int) -> npt.NDArray[np.float32]:
    signs = np.random.default_rng(seed).integers(0, 2, (permutations, n), np.int8)
    return (1 - 2 * signs).astype(np.float32)


def permutation_test(
    first: Sequence[float] | npt.NDArray[Any],
    second: Sequence[float] | npt.NDArray[Any],
    *,
    first_patients: Sequence[Hashable] | npt.NDArray[Any] | None = None,
    second_patients: Sequence[Hashable] | npt.NDArray[Any] | None = None,
    alternative: Alternative = "two-sided",
    seed: int = 0,
    permutations: int = 9999,
) -> Test:
    """Difference in means of two groups of patients, by permutation of the group.

    Parameters
    ----------
    first, second : sequence of float, shape (cases,)
        Values of the two groups, NaN excluded; no patient may be in both.
    first_patients, second_patients : sequence, optional
        Whose cases they are.
    alternative : {"two-sided", "greater"}
        Whether only ``first > second`` counts.
    seed, permutations : int
        Of the random permutations.

    Returns
    -------
    Test
        Studentised by Welch's statistic, so that unequal spreads keep the level in large samples
        (Chung and Romano 2013); the interval is Welch's.
    """
    a, out_a = by_patient(first, first_patients)
    b, out_b = by_patient(second, second_patients)
    n, excluded = a.size + b.size, out_a + out_b
    if min(a.size, b.size) < FEWEST_PATIENTS:
        why = f"{a.size} and {b.size} patients, {FEWEST_PATIENTS} are needed in each group"
        value = float(a.mean() - b.mean()) if min(a.size, b.size) else float("nan")
        nothing = Estimate(value, np.nan, np.nan, n, excluded, f"no interval: {why}")
        return Test(nothing, float("nan"), f"no test: {why}")
    estimate = _welch_interval(a, b, excluded)
    pooled = np.concatenate([a, b])
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.broadcast_to(pooled, (permutations, n)), axis=1)
    observed = _welch(a[None], b[None])[0]
    p = _tail(_welch(shuffled[:, : a.size], shuffled[:, a.size :]), observed, alternative, 1)
    return Test(estimate, p, f"studentised permutation test by patient ({permutations} permutations)")


def _welch(a: Floats, b: Floats) -> Floats:
    difference = a.mean(axis=1) - b.mean(axis=1)
    error = np.sqrt(a.var(axis=1, ddof=1) / a.shape[1] + b.var(axis=1, ddof=1) / b.shape[1])
    certain = np.where(difference == 0, 0.0, np.copysign(np.inf, difference))
    result: Floats = np.divide(difference, error, out=certain, where=error > 0)
    return result


def _welch_interval(a: Floats, b: Floats, excluded: int) -> Estimate:
    va, vb = a.var(ddof=1) / a.size, b.var(ddof=1) / b.size
    value = float(a.mean() - b.mean())
    if va + vb == 0:
        return Estimate(value, value, value, a.size + b.size, excluded, "Welch t-interval by patient")
    freedom = (va + vb) ** 2 / (va**2 / (a.size - 1) + vb**2 / (b.size - 1))
    half = float(stats.t.ppf(0.975, freedom) * np.sqrt(va + vb))
    return Estimate(
        value, value - half, value + half, a.size + b.size, excluded, "Welch t-interval by patient"
    )


def _tail(null: Floats, observed: float, alternative: Alternative, extra: int) -> float:
    """Share of null statistics at least as extreme, the observed one included."""
    if alternative == "two-sided":
        null, observed = np.abs(null), abs(observed)
    slack = 1e-12 * max(1.0, abs(observed)) if np.isfinite(observed) else 0.0
    return float(((null >= observed - slack).sum() + extra) / (null.size + extra))


def benjamini_hochberg(p: Sequence[float] | npt.NDArray[Any]) -> Floats:
    """Adjust p-values so that they control the false discovery rate within one family (1995).

    Parameters
    ----------
    p : sequence of float, shape (tests,)
        NaN where no test was possible; such tests do not count.

    Returns
    -------
    ndarray of float64, shape (tests,)
        NaN stays NaN.
    """
    raw = np.asarray(p, np.float64)
    adjusted = np.full(raw.shape, np.nan)
    tested = ~np.isnan(raw)
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(raw[tested], method="bh")
    return adjusted

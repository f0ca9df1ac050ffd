"""A mean over patients and over draws of random weights, with an interval that holds both."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

from pipeline.comparison import Estimate, mean_interval
from pipeline.comparison.statistics import FEWEST_PATIENTS, LEVEL


def crossed_interval(values: npt.ArrayLike, draws: npt.ArrayLike) -> Estimate:
    """Estimate a mean over patients measured with the same draws, for other patients and other draws.

    Two crossed random effects without replication: the variance of the mean is (MS_patients + MS_draws −
    MS_rest) / (patients · draws), Student's t has Satterthwaite's degrees of freedom (Satterthwaite 1946). A
    mean square that is not above MS_rest is taken for nothing but rest. The interval is never narrower than
    that over the patients alone (`pipeline.comparison.mean_interval`).

    Parameters
    ----------
    values : array, shape (patients,)
        What is estimated, one number a patient; NaN where undefined.
    draws : array, shape (draws, patients)
        The same by draw, or its pseudo-values.

    Returns
    -------
    Estimate
        A patient with a number missing is excluded and counted. No interval below 6 patients, and only that
        over the patients with fewer than two draws.
    """
    mean, table = np.asarray(values, np.float64), np.asarray(draws, np.float64)
    whole = ~(np.isnan(mean) | np.isnan(table).any(axis=0)) if len(table) > 1 else ~np.isnan(mean)
    alone = mean_interval(np.where(whole, mean, np.nan))
    if len(table) < 2 or alone.n < FEWEST_PATIENTS:
        return alone
    error, freedom = _standard_error(table[:, whole])
    half = error * float(stats.t.ppf((1 + LEVEL) / 2, freedom))
    return Estimate(
        alone.value,
        min(alone.low, alone.value - half),
        max(alone.high, alone.value + half),
        alone.n,
        alone.excluded,
        f"t-interval over patients and {len(table)} draws of weights (crossed, Satterthwaite)",
    )


def _standard_error(table: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Estimate the standard error of the mean of a table (draws, patients), and its degrees of freedom."""
    d, n = table.shape
    of_draws, of_patients = table.mean(axis=1), table.mean(axis=0)
    rest = table - of_draws[:, None] - of_patients[None] + table.mean()
    squares = {
        "draws": n * float(of_draws.var(ddof=1)),
        "patients": d * float(of_patients.var(ddof=1)),
        "rest": float(np.square(rest).sum()) / ((d - 1) * (n - 1)),
    }
    if squares["draws"] <= squares["rest"]:
        return float(np.sqrt(squares["patients"] / (n * d))), n - 1
    if squares["patients"] <= squares["rest"]:
        return float(np.sqrt(squares["draws"] / (n * d))), d - 1
    sum_ = squares["patients"] + squares["draws"] - squares["rest"]
    freedom = sum_**2 / (
        squares["patients"] ** 2 / (n - 1)
        + squares["draws"] ** 2 / (d - 1)
        + squares["rest"] ** 2 / ((n - 1) * (d - 1))
    )
    return float(np.sqrt(sum_ / (n * d))), freedom

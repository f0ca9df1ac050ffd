"""What in the data alone gives the label away, without any model of the disease."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.comparison.roc import auc_interval
from pipeline.comparison.statistics import Estimate
from pipeline.interventions.composition import Floats, Mask

BLOCKS = 6
"""Blocks an axis into which the image is averaged outside the anatomy."""


def predictability(
    features: npt.NDArray[Any], positive: Sequence[bool], patients: Sequence[str], *, seed: int
) -> Estimate:
    """Tell how well a logistic regression guesses the label from `features`, cross-validated by patient.

    Parameters
    ----------
    features : ndarray of float, shape (cases, features)
        NaN counts as the mean.
    positive : sequence of bool
    patients : sequence of str
    seed : int
        Of the folds.

    Returns
    -------
    Estimate
        Area under the ROC curve; 0.5 is chance.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table, truth = np.asarray(features, np.float64), np.asarray(positive, bool)
    owners = np.asarray(patients, object)
    means = np.array([np.nanmean(c) if np.isfinite(c).any() else 0.0 for c in table.T])
    table = np.where(np.isnan(table), means, table)
    varying = table.std(0) > 1e-9
    folds = min(5, len(set(owners[truth])), len(set(owners[~truth])))
    if folds < 2 or not varying.any():
        return auc_interval(np.zeros(len(truth)), truth, owners, seed=seed)
    scores = np.zeros(len(truth))
    split = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for fit, test in split.split(table, truth, owners):
        if truth[fit].all() or not truth[fit].any():
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=1000))
        model.fit(table[fit][:, varying], truth[fit])
        scores[test] = model.decision_function(table[test][:, varying])
    return auc_interval(scores, truth, owners, seed=seed)


def outside_features(image: Floats, field: Mask) -> npt.NDArray[np.float64]:
    """Mean and largest value outside the anatomy in blocks of the grid.

    Parameters
    ----------
    image : ndarray of float32, shape (C, *spatial)
    field : ndarray of bool, shape spatial
        Brain or field of view, widened by two pixels before it is left out.

    Returns
    -------
    ndarray of float64, shape (2 × blocks,)
    """
    from scipy.ndimage import binary_dilation

    outside = ~binary_dilation(field, iterations=2)
    plane = np.where(outside, image.mean(0), 0)
    places = [np.arange(n) * BLOCKS // n for n in field.shape]
    block = np.zeros(field.shape, np.int64)
    for axis, place in enumerate(places):
        block = block * BLOCKS + place.reshape([-1 if i == axis else 1 for i in range(field.ndim)])
    size = BLOCKS**field.ndim
    counts = np.maximum(np.bincount(block[outside], minlength=size), 1)
    means = np.bincount(block[outside], plane[outside], minlength=size) / counts
    largest = np.full(size, -np.inf)  # black may be negative: photographs come normalised
    np.maximum.at(largest, block[outside], plane[outside])
    return np.concatenate([means, np.where(np.isfinite(largest), largest, 0)])


def covariate_features(
    columns: Sequence[dict[str, str]],
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Turn covariates into numbers: age as it is, everything else one column a level.

    Parameters
    ----------
    columns : sequence of dict
        Covariates of each case, as the cohort table has them.

    Returns
    -------
    features : ndarray, shape (cases, features)
    names : tuple of str
    """
    names = sorted({name for row in columns for name in row})
    out: list[list[float]] = []
    titles: list[str] = []
    for name in names:
        if name == "age":
            out.append([float(row[name]) if row.get(name) else np.nan for row in columns])
            titles.append(name)
            continue
        for level in sorted({row[name] for row in columns if row.get(name)}):
            out.append([float(row.get(name) == level) for row in columns])
            titles.append(f"{name} {level}")
    table = np.array(out, np.float64).T if out else np.zeros((len(columns), 0))
    return table, tuple(titles)

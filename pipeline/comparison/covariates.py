"""Does it hold for everybody? Subgroups with a smallest n, and what the score goes with inside a class."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from pipeline.comparison.hypotheses import benjamini_hochberg, permutation_test
from pipeline.comparison.statistics import FEWEST_PATIENTS, LEVEL, Estimate, by_patient
from pipeline.comparison.summary import estimate_of, with_sources
from pipeline.errors import CohortError


def age_bands(
    age: Sequence[float] | npt.NDArray[Any], edges: Sequence[float] = (50, 60, 70, 80)
) -> list[str]:
    """Age band of every case, '' where the age is missing.

    Parameters
    ----------
    age : sequence of float, shape (cases,)
        Years.
    edges : sequence of float
        First age of every band but the youngest.

    Returns
    -------
    list of str
        ``<50``, ``50–59``, …, ``80+``.
    """
    names = [
        f"<{edges[0]:g}",
        *(f"{a:g}–{b - 1:g}" for a, b in pairwise(edges)),
        f"{edges[-1]:g}+",
    ]
    years = np.asarray(age, np.float64)
    return ["" if np.isnan(year) else names[int(np.searchsorted(edges, year, "right"))] for year in years]


def subgroups(
    measurements: pd.DataFrame,
    cases: pd.DataFrame,
    columns: Sequence[str],
    *,
    metric: str = "log2_mass_lift",
    smallest: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """One metric in every subgroup, each against the rest of the cohort.

    Parameters
    ----------
    measurements : DataFrame
        See `pipeline.comparison.summary.COLUMNS`.
    cases : DataFrame
        Column ``case`` and the grouping columns (age band, sex, site, grade, correct, …); '' or NaN: unknown.
    columns : sequence of str
        Which of them.
    metric : str, default "log2_mass_lift"
        Which metric.
    smallest : int, default 10
        Subgroups of fewer patients are named with their n and get no number.
    seed : int
        Of bootstrap and permutations.

    Returns
    -------
    DataFrame
        One row a method × target × lesion × call × column × level: ``value``, ``low``, ``high``, ``n``,
        ``excluded``, ``difference`` to the rest, ``p``, ``p_adjusted`` (over the whole table), ``note``.

    Raises
    ------
    CohortError
        If a column is missing or a case is listed twice.
    """
    absent = [column for column in ("case", *columns) if column not in cases]
    if absent:
        raise CohortError(f"the case table lacks {', '.join(absent)}", "name existing columns as subgroups")
    if cases["case"].duplicated().any():
        raise CohortError("the case table lists a case twice", "give one row a case")
    frame = with_sources(measurements)
    frame = frame[(frame["metric"] == metric) & (frame["source"] == "model")]
    frame = frame.merge(cases[["case", *columns]], on="case", how="left")
    rows = []
    keys = ["method", "target", "lesion", "call"]
    for key, group in frame.groupby(keys, sort=True, observed=True, dropna=False):
        for column in columns:
            known = group[group[column].notna() & (group[column].astype(str) != "")]
            for level in sorted(known[column].unique(), key=str):
                chosen = known[column] == level
                rows.append(
                    {
                        **dict(zip(keys, key, strict=True)),
                        "column": column,
                        "level": str(level),
                        **_subgroup(metric, known[chosen], known[~chosen], smallest, seed),
                    }
                )
    result = pd.DataFrame(rows)
    if not result.empty:
        result["p_adjusted"] = benjamini_hochberg(result["p"].to_numpy(np.float64))
    return result


def _subgroup(
    metric: str, group: pd.DataFrame, rest: pd.DataFrame, smallest: int, seed: int
) -> dict[str, Any]:
    nan = float("nan")
    n = int(group.loc[group["value"].notna(), "patient"].nunique())
    empty = {"value": nan, "low": nan, "high": nan, "n": n, "excluded": int(group["value"].isna().sum())}
    if n < smallest:
        note = f"fewer than {smallest} patients"
        return {**empty, "difference": nan, "p": nan, "note": note}
    estimate = estimate_of(metric, group["value"].to_numpy(), group["patient"].to_numpy(object), seed=seed)
    both = set(group["patient"]) & set(rest["patient"])
    ours, others = group[~group["patient"].isin(both)], rest[~rest["patient"].isin(both)]
    test = permutation_test(
        ours["value"].to_numpy(),
        others["value"].to_numpy(),
        first_patients=ours["patient"].to_numpy(object),
        second_patients=others["patient"].to_numpy(object),
        seed=seed,
        permutations=1999,
    )
    note = f"{len(both)} patients in both groups are not in the test" if both else ""
    if np.isnan(test.p):
        note = "; ".join(filter(None, [test.method, note]))
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "excluded": estimate.excluded,
        "difference": test.difference.value,
        "p": test.p,
        "note": note,
    }


def associations(
    logits: Sequence[float] | npt.NDArray[Any],
    labels: Sequence[Hashable],
    covariates: pd.DataFrame,
    patients: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Tell what the score goes with among cases of one class, where the disease cannot be the reason.

    Parameters
    ----------
    logits : sequence of float, shape (cases,)
        Of the target.
    labels : sequence, shape (cases,)
        True class.
    covariates : DataFrame, one row a case
        Numbers (age, brightness, image size) are correlated; everything else (sex, site) is compared level by
        level with the rest. Missing values are left out and counted.
    patients : sequence, optional
        Whose case it is.
    seed : int
        Of the permutations.

    Returns
    -------
    DataFrame
        One row a class × covariate (× level): ``measure`` (``Spearman's ρ`` or ``difference in logit``),
        ``value``, ``low``, ``high``, ``n``, ``excluded``, ``p``, ``p_adjusted`` (over the whole table),
        ``interval``.

    Raises
    ------
    CohortError
        If the lengths differ.
    """
    score, truth = np.asarray(logits, np.float64), pd.Series(list(labels))
    owners = np.arange(score.size) if patients is None else np.asarray(list(patients), object)
    if not score.size == len(truth) == len(covariates) == owners.size:
        raise CohortError(
            "logits, labels, covariates and patients differ in length", "give one of each a case"
        )
    rows = []
    for label in sorted(truth.dropna().unique(), key=str):
        chosen = (truth == label).to_numpy()
        for name in covariates.columns:
            column = covariates[name][chosen].reset_index(drop=True)
            common = {"class": label, "covariate": name}
            if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
                row = _correlation(score[chosen], column.to_numpy(np.float64), owners[chosen])
                rows.append({**common, "level": "", "measure": "Spearman's ρ", **row})
                continue
            levels = sorted(column.dropna().unique(), key=str)
            for level in levels[:1] if len(levels) == 2 else levels:
                row = _contrast(score[chosen], column, level, owners[chosen], seed)
                rows.append({**common, "level": str(level), "measure": "difference in logit", **row})
    result = pd.DataFrame(rows)
    if not result.empty:
        result["p_adjusted"] = benjamini_hochberg(result["p"].to_numpy(np.float64))
    return result


def _correlation(
    score: npt.NDArray[np.float64], covariate: npt.NDArray[np.float64], owners: npt.NDArray[Any]
) -> dict[str, Any]:
    """Spearman's ρ of patients' means, with the interval of Bonett and Wright (2000)."""
    defined = ~(np.isnan(score) | np.isnan(covariate))
    x, _ = by_patient(score[defined], owners[defined])
    y, _ = by_patient(covariate[defined], owners[defined])
    nan, n, excluded = float("nan"), x.size, int((~defined).sum())
    row = {"value": nan, "low": nan, "high": nan, "n": n, "excluded": excluded, "p": nan}
    if n < FEWEST_PATIENTS:
        return {**row, "interval": f"no interval: {n} patients, {FEWEST_PATIENTS} are needed"}
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return {**row, "interval": "no interval: one of the two is constant"}
    found = stats.spearmanr(x, y)
    rho = float(found.statistic)
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    centre = np.arctanh(np.clip(rho, -1 + 1e-12, 1 - 1e-12))
    low, high = np.tanh([centre - half, centre + half])
    return {
        **row,
        "value": rho,
        "low": float(low),
        "high": float(high),
        "p": float(found.pvalue),
        "interval": "Bonett and Wright, by patient",
    }


def _contrast(
    score: npt.NDArray[np.float64], column: pd.Series[Any], level: Any, owners: npt.NDArray[Any], seed: int
) -> dict[str, Any]:
    known, ours = column.notna().to_numpy(), (column == level).to_numpy()
    both = set(owners[known & ours]) & set(owners[known & ~ours])
    usable = known & ~np.isin(owners, list(both))
    test = permutation_test(
        score[usable & ours],
        score[usable & ~ours],
        first_patients=owners[usable & ours],
        second_patients=owners[usable & ~ours],
        seed=seed,
        permutations=1999,
    )
    estimate: Estimate = test.difference
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "excluded": estimate.excluded + int((~usable).sum()),
        "p": test.p,
        "interval": estimate.method,
    }

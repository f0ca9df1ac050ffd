"""From one row a case to one row a question: cohort numbers of every method, null and twin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.comparison.hypotheses import benjamini_hochberg, paired_test
from pipeline.comparison.statistics import Estimate, mean_interval, rate_interval
from pipeline.errors import RecordError

COLUMNS = ("case", "patient", "method", "target", "lesion", "metric", "value")
"""Columns of a table of measurements, one row a case × method × target × lesion × metric.

``method`` is a method's name for the audited model, ``null:<name>`` for a map that knows no model,
``twin-<number>:<method>`` for the same method on random weights, ``shuffled:<method>`` for the same method on
a model trained on shuffled labels; nulls and twins carry the target of the model's row beside them. Optional
are ``floored`` (the value is set by the floor) and ``logit`` (the audited model's logit of the target).
"""

RATE_METRICS = frozenset({"pointing_game", "correct"})
"""Metrics that are rates over cases."""
SHARE_METRICS = frozenset(
    {"mass_accuracy", "rank_accuracy", "auprc", "auroc", "dice", "iou", "outside", "rim"}
)
"""Metrics that lie in 0–1."""
KEYS = ["method", "source", "target", "lesion", "metric", "call"]


def with_sources(measurements: pd.DataFrame) -> pd.DataFrame:
    """Split ``method`` into ``source`` and ``method`` and add ``call``.

    ``source`` is ``model``, ``null``, ``twin-1``, … or ``shuffled``. ``call`` is ``for`` where the target's
    logit is positive and ``against`` where it is not: relevance of a negative logit explains why the model
    did *not* call the target, and such cases are never mixed with the others. Without a logit it is
    ``unknown``.

    Parameters
    ----------
    measurements : DataFrame
        See `COLUMNS`.

    Returns
    -------
    DataFrame

    Raises
    ------
    RecordError
        If a column is missing.
    """
    missing = [column for column in COLUMNS if column not in measurements]
    if missing:
        raise RecordError(f"the measurements lack {', '.join(missing)}", "run the audit again")
    parts = {name: str(name).rpartition(":") for name in measurements["method"].unique()}
    frame = measurements.assign(
        source=measurements["method"].map({name: part[0] or "model" for name, part in parts.items()}),
        method=measurements["method"].map({name: part[2] for name, part in parts.items()}),
        floored=measurements["floored"].astype(bool) if "floored" in measurements else False,
    )
    if "logit" not in frame:
        return frame.assign(call="unknown")
    own = frame.loc[frame["source"] == "model", ["case", "target", "logit"]]
    logit = (
        own.dropna(subset="logit").drop_duplicates(["case", "target"]).set_index(["case", "target"])["logit"]
    )
    call = pd.Series(np.where(logit > 0, "for", "against"), index=logit.index)
    of_row = pd.MultiIndex.from_frame(frame[["case", "target"]])
    return frame.assign(call=call.reindex(of_row).fillna("unknown").to_numpy())


def summarise(measurements: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Cohort value of every metric with its interval by patient.

    Parameters
    ----------
    measurements : DataFrame
        See `COLUMNS`.
    seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        One row a method × source × target × lesion × metric × call: ``value``, ``low``, ``high``, ``n``
        (patients), ``cases``, ``excluded``, ``floored`` (cases) and ``interval`` (how it was made).
    """
    frame = with_sources(measurements)
    rows = []
    for key, group in frame.groupby(KEYS, sort=True, observed=True, dropna=False):
        values, patients = group["value"].to_numpy(np.float64), group["patient"].to_numpy(object)
        estimate = estimate_of(str(key[KEYS.index("metric")]), values, patients, seed=seed)
        rows.append(
            {
                **dict(zip(KEYS, key, strict=True)),
                **_columns(estimate),
                "cases": len(group),
                "floored": int(group["floored"].sum()),
            }
        )
    return pd.DataFrame(rows)


def estimate_of(metric: str, values: Any, patients: Any, *, seed: int = 0) -> Estimate:
    """Interval that suits the metric: exact for rates, cut at 0 and 1 for shares.

    Parameters
    ----------
    metric : str
        Its name.
    values, patients : sequence, shape (cases,)
        NaN where undefined; whose case it is.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Estimate
    """
    if metric in RATE_METRICS:
        return rate_interval(values, patients)
    bounds = (0.0, 1.0) if metric in SHARE_METRICS else (-np.inf, np.inf)
    return mean_interval(values, patients, bounds=bounds, seed=seed)


def _columns(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
        "excluded": estimate.excluded,
        "interval": estimate.method,
    }


def paired_lifts(
    measurements: pd.DataFrame, *, metric: str = "log2_mass_lift", seed: int = 0
) -> pd.DataFrame:
    """Compare each method with every null and twin, case by case: the main statistic.

    Parameters
    ----------
    measurements : DataFrame
        See `COLUMNS`.
    metric : str, default "log2_mass_lift"
        Which metric; with a lift the differences are in bits.
    seed : int
        Of bootstrap and permutations.

    Returns
    -------
    DataFrame
        One row a method × target × lesion × call × reference (each null; ``twins``, the mean over all
        random twins; ``shuffled``): ``value`` (mean difference over patients), ``low``, ``high``, ``n``,
        ``excluded`` (cases without a value on either side), ``p``, ``p_adjusted`` (Benjamini–Hochberg over
        the table), ``test`` and a plain ``conclusion``.
    """
    frame = with_sources(measurements)
    frame = frame[frame["metric"] == metric]
    keys = ["target", "lesion", "call", "case"]
    own = frame[frame["source"] == "model"]
    patients = own.drop_duplicates("case").set_index("case")["patient"]
    references = _references(frame, keys)
    rows = []
    for (method, target, lesion, call), group in own.groupby(
        ["method", "target", "lesion", "call"], sort=True, observed=True, dropna=False
    ):
        index = group.set_index(keys)["value"].astype(np.float64)
        owners = patients.loc[index.index.get_level_values("case")].to_numpy(object)
        for name, reference in references.items():
            values = reference.get(str(method), reference.get(""))
            if values is None:
                continue
            against = values.reindex(index.index)
            if against.isna().all():
                continue
            test = paired_test(index.to_numpy(), against.to_numpy(np.float64), owners, seed=seed)
            rows.append(
                {
                    "method": method,
                    "target": target,
                    "lesion": lesion,
                    "call": call,
                    "reference": name,
                    **_columns(test.difference),
                    "p": test.p,
                    "test": test.method,
                }
            )
    result = pd.DataFrame(rows)
    if result.empty:
        return result
    result["p_adjusted"] = benjamini_hochberg(result["p"].to_numpy(np.float64))
    if metric.startswith("log2_"):
        result["conclusion"] = [conclusion(dict(row)) for _, row in result.iterrows()]
    return result


def _references(frame: pd.DataFrame, keys: Sequence[str]) -> dict[str, dict[str, pd.Series[float]]]:
    """Collect the values of every case: reference → method ('' for all) → series."""
    references: dict[str, dict[str, pd.Series[float]]] = {}
    for name, group in frame[frame["source"] == "null"].groupby("method", sort=True, observed=True):
        references[str(name)] = {"": group.groupby(list(keys), observed=True, dropna=False)["value"].mean()}
    source = frame["source"].astype(str)
    for name, chosen in {"twins": source.str.startswith("twin-"), "shuffled": source == "shuffled"}.items():
        for method, group in frame[chosen].groupby("method", sort=True, observed=True):
            values = group.groupby(list(keys), observed=True, dropna=False)["value"].mean()
            references.setdefault(name, {})[str(method)] = values
    return references


_NAMES = {
    "centre": "a map of the image's centre",
    "random": "a random smooth map",
    "sobel": "an edge map",
    "contrast": "plain image contrast",
    "mean_mask": "the other patients' average mask",
    "twins": "the same method on models with random weights",
    "shuffled": "the same method on a model trained on shuffled labels",
}


def conclusion(row: dict[str, Any]) -> str:
    """One plain sentence about one row of `paired_lifts`.

    Parameters
    ----------
    row : dict
        With ``method``, ``lesion``, ``reference``, ``value``, ``low``, ``high``, ``n``, ``p_adjusted``.

    Returns
    -------
    str
    """
    method, lesion = row["method"], str(row["lesion"]).replace("_", " ") or "the marked area"
    other = _NAMES.get(str(row["reference"]), str(row["reference"]))
    if np.isnan(row["low"]):
        return (
            f"Too few patients (n = {row['n']}) to say whether {method} does better on {lesion} than {other}."
        )
    times, low, high = (2.0 ** row[name] for name in ("value", "low", "high"))
    numbers = f"{times:.2g} times, 95 % interval {low:.2g} to {high:.2g}, n = {row['n']}"
    certain = row["p_adjusted"] < 0.05
    if certain and row["low"] > 0:
        return f"{method} puts more relevance on {lesion} than {other} ({numbers})."
    if certain and row["high"] < 0:
        return f"{method} puts less relevance on {lesion} than {other} ({numbers})."
    return f"{method} is not shown to do better on {lesion} than {other} ({numbers})."

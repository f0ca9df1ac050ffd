"""Agreement with experts over the cohort: every method beside null maps and twins, paired case by case."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.protocol import Protocol
from pipeline.record.experts import TwinRow
from pipeline.record.parts import figure_of
from pipeline.record.schema import Agreement, Figure
from pipeline.stages.measuring import EXPERTS, FLOORED, NULL

if TYPE_CHECKING:
    import pandas as pd

AGREEMENT_METRICS = (
    "log2_mass_lift",
    "log2_rank_lift",
    "mass_accuracy",
    "rank_accuracy",
    "auprc",
    "pointing_game",
)
REGION_METRIC = "expected_log2_density_lift"
REGIONS = "expected_regions"
MAIN = ("log2_mass_lift", REGION_METRIC)
TWINS = ("twins", "shuffled")
_PAIRED = ("log2_mass_lift", "log2_rank_lift", "auprc", REGION_METRIC)


def drop_zero_maps(table: pd.DataFrame, twins: Sequence[TwinRow]) -> tuple[pd.DataFrame, list[TwinRow]]:
    """Take out the methods under which a twin's maps are zero: whatever beats them proves nothing.

    Returns
    -------
    tuple of DataFrame and list of TwinRow
        The rows that may be compared with, and the twins with their share of zero maps by method.
    """
    from pipeline.comparison.twins import MOST_ZERO_MAPS

    zero = table[table.metric == "zero_map"].groupby("method")["value"].mean()
    rows = []
    for twin in twins:
        named = {tuple(str(name).split(":", 1)): float(share) for name, share in zero.items()}
        mine = {method: share for (source, method), share in named.items() if source == twin.name}
        rows.append(twin.model_copy(update={"zero_maps": mine}))
    unfit = set(zero.index[zero > MOST_ZERO_MAPS])
    return table[~table.method.isin(unfit)], rows


def agreement_rows(table: pd.DataFrame, protocol: Protocol, target: int) -> list[Agreement]:
    """Compare each method's maps with the expert marks and, paired by case, with every null map and twin.

    Parameters
    ----------
    table : DataFrame
        See `pipeline.findings.overview.measurement_table`.
    protocol : Protocol
    target : int
        Class that is audited.

    Returns
    -------
    list of Agreement
        Over the cases whose logit for the target is not negative; the others are `against`.
    """
    wanted = table.metric.isin(AGREEMENT_METRICS) & (table.lesion != "")
    regions = (table.metric == REGION_METRIC) & (table.lesion == "")
    mine = table[(table.target == target) & (wanted | regions)]
    if mine.empty:
        return []
    mine = mine.assign(lesion=mine.lesion.where(mine.lesion != "", REGIONS))
    against = (mine.logit < 0).to_numpy()
    rows: list[Agreement] = []
    for metric in dict.fromkeys(mine.metric):
        part = mine[mine.metric == metric]
        rows += _of_metric(
            str(metric), part[~against[mine.metric == metric]], part[against[mine.metric == metric]], protocol
        )
    return sorted(rows, key=lambda r: (r.lesion == REGIONS, r.lesion, r.metric))


def _of_metric(
    metric: str, table: pd.DataFrame, against: pd.DataFrame, protocol: Protocol
) -> list[Agreement]:
    """All rows of one metric: one family of tests."""
    paired = _paired(metric, table[table.method != EXPERTS], protocol.seed)
    rows = []
    methods = [m.name for m in protocol.methods]
    for lesion in sorted(set(table.lesion) | set(against.lesion)):
        wide = _wide(table[table.lesion == lesion])
        negative = _wide(against[against.lesion == lesion])
        floored = table[(table.lesion == lesion) & (table.status == FLOORED)].method.value_counts()
        for method in (m for m in methods if m in wide.columns or m in negative.columns):
            references = _references(wide, method)
            row = Agreement(
                method=method,
                lesion=lesion,
                metric=metric,
                figure=_figure(metric, wide[[method]]) if method in wide.columns else Figure(),
                nulls={name: _figure(metric, wide[columns]) for name, columns in references.items()},
                ceiling=_figure(metric, wide[[EXPERTS]]) if EXPERTS in wide.columns else None,
                against=_figure(metric, negative[[method]]) if method in negative.columns else None,
                floored=int(floored.get(method, 0)),
            )
            for name in references:
                found = paired.get((method, lesion, name))
                if found is None:
                    continue
                row.differences[name], p, sentence = found
                if p is not None:
                    row.p_values[name] = p
                if sentence:
                    row.conclusions[name] = sentence
            rows.append(row)
    return rows


def _paired(
    metric: str, table: pd.DataFrame, seed: int
) -> dict[tuple[str, str, str], tuple[Figure, float | None, str]]:
    """Map method, lesion and reference to the paired difference, corrected p, sentence."""
    from pipeline.comparison import Estimate, paired_lifts
    from pipeline.comparison.summary import conclusion

    if metric not in _PAIRED or table.empty:
        return {}
    found = paired_lifts(table.drop(columns="logit"), metric=metric, seed=seed)
    result = {}
    for row in found.to_dict("records"):
        estimate = Estimate(
            row["value"], row["low"], row["high"], int(row["n"]), int(row["excluded"]), str(row["interval"])
        )
        p = float(row["p_adjusted"])
        sentence = conclusion(dict(row)) if metric in MAIN and np.isfinite(row["low"]) else ""
        result[row["method"], row["lesion"], row["reference"]] = (
            figure_of(estimate),
            p if np.isfinite(p) else None,
            sentence,
        )
    return result


def _references(wide: pd.DataFrame, method: str) -> dict[str, list[str]]:
    """Map what a method is compared with to its columns: null maps, then twins."""
    found = {str(n).removeprefix(NULL): [str(n)] for n in wide.columns if str(n).startswith(NULL)}
    twins = [
        str(n) for n in wide.columns if str(n).startswith("twin-") and str(n).partition(":")[2] == method
    ]
    if twins:
        found["twins"] = twins
    if f"shuffled:{method}" in wide.columns:
        found["shuffled"] = [f"shuffled:{method}"]
    return found


def _wide(part: pd.DataFrame) -> pd.DataFrame:
    return part.set_index(["case", "patient", "method"])["value"].unstack("method")


def _figure(metric: str, columns: pd.DataFrame) -> Figure:
    """Mean of one column, or of the mean of several, with its interval by patient."""
    from pipeline.comparison.summary import RATE_METRICS, estimate_of

    if columns.shape[1] > 1 and metric in RATE_METRICS:
        metric = f"mean {metric}"  # a mean over several maps is no count any more
    values = columns.mean(axis=1).to_numpy(np.float64)
    return figure_of(estimate_of(metric, values, columns.index.get_level_values("patient").to_numpy(object)))

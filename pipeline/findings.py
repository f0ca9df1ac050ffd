"""From the measurements of all cases to what the audit found: skill, agreement, regions, shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.measuring import NULL
from pipeline.protocol import Criterion, Protocol
from pipeline.record import Agreement, CaseResult, Figure, RegionRow, Role
from pipeline.record_interventions import Interventions
from pipeline.verdict import FINDINGS, Found

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.comparison import Estimate

AGREEMENT_METRICS = (
    "log2_mass_lift",
    "log2_rank_lift",
    "mass_accuracy",
    "rank_accuracy",
    "auprc",
    "pointing_game",
)
_PAIRED = ("log2_mass_lift", "log2_rank_lift", "auprc")
_COLUMNS = ("case", "patient", "method", "target", "lesion", "region", "metric", "value", "status")


def measurement_table(results: Sequence[CaseResult]) -> pd.DataFrame:
    """Every number of every case as one long table.

    Returns
    -------
    pandas.DataFrame
        Columns case, patient, method, target, lesion, region, metric, value (NaN where undefined), status.
    """
    import pandas as pd

    rows = [m.model_dump() for result in results for m in result.measurements]
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    return table.astype({"value": "float64", "target": "int64"})


def skill(results: Sequence[CaseResult], target: int, seed: int) -> dict[str, Figure]:
    """Accuracy over labelled cases, and the AUC of the target class against the others, by patient."""
    from pipeline.comparison import accuracy_interval, auc_interval

    known = [r for r in results if r.row.label is not None]
    if not known:
        return {}
    patients = [r.patient for r in known]
    labels = [r.row.label for r in known]
    found = {"accuracy": _figure(accuracy_interval([r.row.predicted for r in known], labels, patients))}
    positive = np.array([label == target for label in labels])
    if positive.any() and not positive.all():
        scores = [_margin(r, target) for r in known]
        found["auc"] = _figure(auc_interval(scores, positive, patients, seed=seed))
    return found


def agreement_rows(table: pd.DataFrame, protocol: Protocol, target: int) -> list[Agreement]:
    """Compare each method's maps with the expert marks and, paired by case, with every null map."""
    from pipeline.comparison import benjamini_hochberg, mean_interval, paired_test, rate_interval

    rows: list[Agreement] = []
    tests: list[tuple[Agreement, str, float]] = []
    mine = table[(table.target == target) & (table.lesion != "")]
    for (lesion, metric), part in mine.groupby(["lesion", "metric"], sort=True):
        if metric not in AGREEMENT_METRICS:
            continue
        wide = part.set_index(["case", "patient", "method"])["value"].unstack("method")
        patients = wide.index.get_level_values("patient").to_numpy()
        interval = rate_interval if metric == "pointing_game" else mean_interval
        figures = {name: _figure(interval(wide[name].to_numpy(), patients)) for name in wide.columns}
        nulls = {name.removeprefix(NULL): name for name in wide.columns if name.startswith(NULL)}
        for method in (m.name for m in protocol.methods if m.name in wide.columns):
            row = Agreement(
                method=method,
                lesion=str(lesion),
                metric=str(metric),
                figure=figures[method],
                nulls={short: figures[name] for short, name in nulls.items()},
            )
            rows.append(row)
            for short, name in nulls.items() if metric in _PAIRED else ():
                test = paired_test(wide[method].to_numpy(), wide[name].to_numpy(), patients)
                row.differences[short] = _figure(test.difference)
                if math.isfinite(test.p):
                    tests.append((row, short, test.p))
    for (row, short, _), p in zip(tests, benjamini_hochberg([p for _, _, p in tests]), strict=True):
        row.p_values[short] = float(p)
    return rows


def region_rows(
    table: pd.DataFrame, protocol: Protocol, target: int, roles: dict[str, Role]
) -> list[RegionRow]:
    """Rank the regions of every method by their share of relevance per volume.

    Parameters
    ----------
    roles : dict of str to str
        Region → role (`expected`, `control` or empty).
    """
    from pipeline.comparison import mean_interval

    rows: list[RegionRow] = []
    mine = table[(table.target == target) & (table.metric == "region_density")]
    for method in (m.name for m in protocol.methods):
        part = mine[mine.method == method]
        if part.empty:
            continue
        wide = part.set_index(["case", "patient", "region"])["value"].unstack("region")
        patients = wide.index.get_level_values("patient").to_numpy()
        relative = wide.div(wide.mean(axis=1), axis=0)
        ranks = wide.rank(axis=1, ascending=False)
        rows += [
            RegionRow(
                method=method,
                region=str(region),
                density=_figure(mean_interval(relative[region].to_numpy(), patients)),
                rank=_figure(mean_interval(ranks[region].to_numpy(), patients)),
                role=roles.get(str(region), ""),
            )
            for region in wide.columns
        ]
    return sorted(rows, key=lambda r: (r.method, math.inf if r.rank.value is None else r.rank.value))


def mean_figures(table: pd.DataFrame, metric: str, target: int) -> dict[str, Figure]:
    """Mean over patients of a metric that is measured once a map, for every method and null map."""
    from pipeline.comparison import mean_interval

    mine = table[(table.target == target) & (table.metric == metric) & (table.lesion == "")]
    return {
        str(method).removeprefix(NULL): _figure(mean_interval(part.value.to_numpy(), part.patient.to_numpy()))
        for method, part in mine.groupby("method", sort=True)
    }


def find(
    criterion: Criterion,
    table: pd.DataFrame,
    target: int,
    skills: dict[str, Figure],
    rows: Sequence[Agreement],
    interventions: Interventions | None = None,
) -> Found | None:
    """Return the number that a criterion bounds; None where it was not measured."""
    from pipeline.comparison import mean_interval
    from pipeline.finding_interventions import find_in_interventions

    if FINDINGS[criterion.name].stage in ("covariates", "interventions"):
        return find_in_interventions(criterion, interventions) if interventions else None
    if criterion.name == "skill_auc":
        return Found(skills["auc"], 0.5) if "auc" in skills else None
    metric = {"relevance_outside": "share_outside", "expected_regions": "expected_log2_density_lift"}.get(
        criterion.name
    )
    if metric:
        mine = table[(table.target == target) & (table.metric == metric) & (table.method == criterion.method)]
        figure = _figure(mean_interval(mine.value.to_numpy(), mine.patient.to_numpy()))
        return Found(figure, 0.0 if metric.startswith("expected") else None)
    if criterion.name == "lift_over_nulls":
        found = [row for row in rows if row.method == criterion.method and row.metric == "log2_mass_lift"]
        figures = [d for row in found for d in row.differences.values() if d.low is not None]
        if not figures:
            return None
        # every lesion type against its hardest null; the audit stands on the weakest of them
        return Found(min(figures, key=lambda f: f.low if f.low is not None else math.inf), 0.0)
    return None


def _margin(result: CaseResult, target: int) -> float:
    """Log odds of the target class against all others."""
    p = min(max(result.row.scores[target], 1e-300), 1 - 1e-16)
    return math.log(p) - math.log1p(-p)


def _figure(estimate: Estimate) -> Figure:
    def number(x: float) -> float | None:
        return float(x) if math.isfinite(x) else None

    return Figure(
        value=number(estimate.value),
        low=number(estimate.low),
        high=number(estimate.high),
        n=estimate.n,
        excluded=estimate.excluded,
        method=estimate.method,
    )

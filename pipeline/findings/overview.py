"""From the measurements of all cases to what the audit found: skill, agreement, regions, shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.findings.agreement import REGION_METRIC, TWINS
from pipeline.protocol import Criterion, Protocol
from pipeline.record.interventions import Interventions
from pipeline.record.parts import figure_of
from pipeline.record.schema import Agreement, CaseResult, Figure, RegionRow, Role
from pipeline.record.trust import Trust
from pipeline.stages.average_marks import AVERAGE
from pipeline.stages.measuring import NULL
from pipeline.verdict import FINDINGS, Found

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = ("case", "patient", "method", "target", "lesion", "region", "metric", "value", "status")


def measurement_table(results: Sequence[CaseResult]) -> pd.DataFrame:
    """Every number of every case as one long table.

    Returns
    -------
    pandas.DataFrame
        Columns case, patient, method, target, lesion, region, metric, value (NaN where undefined), status,
        logit (of the audited class).
    """
    import pandas as pd

    rows = [m.model_dump() for result in results for m in result.measurements]
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    logits = {result.row.case: result.row.logit for result in results}
    table["logit"] = table["case"].map(logits)
    return table.astype({"value": "float64", "target": "int64", "logit": "float64"})


def skill(results: Sequence[CaseResult], target: int, seed: int) -> dict[str, Figure]:
    """Accuracy over labelled cases, and the AUC of the target class against the others, by patient."""
    from pipeline.comparison import accuracy_interval, auc_interval

    known = [r for r in results if r.row.label is not None]
    if not known:
        return {}
    patients = [r.patient for r in known]
    labels = [r.row.label for r in known]
    found = {"accuracy": figure_of(accuracy_interval([r.row.predicted for r in known], labels, patients))}
    positive = np.array([label == target for label in labels])
    if positive.any() and not positive.all():
        scores = [_margin(r, target) for r in known]
        found["auc"] = figure_of(auc_interval(scores, positive, patients, seed=seed))
    return found


def region_rows(
    table: pd.DataFrame, protocol: Protocol, target: int, roles: dict[str, Role]
) -> list[RegionRow]:
    """Rank the regions of every method by their share of relevance per volume.

    Parameters
    ----------
    roles : dict of str to str
        Region → role (`expected`, `control` or empty).
    """
    from pipeline.comparison import mean_interval, rank_intervals
    from pipeline.comparison.regions import RegionScores

    rows: list[RegionRow] = []
    mine = table[(table.target == target) & (table.metric == "region_density")]
    for method in (m.name for m in protocol.methods):
        part = mine[mine.method == method]
        if part.empty:
            continue
        wide = part.set_index(["case", "patient", "region"])["value"].unstack("region")
        patients = wide.index.get_level_values("patient").to_numpy()
        relative = wide.div(wide.mean(axis=1), axis=0)
        names = tuple(str(region) for region in wide.columns)
        densities = wide.to_numpy(np.float64)
        scores = [RegionScores(names, np.ones(len(names)), d, d, d) for d in densities]
        ranks = rank_intervals(scores, patients, seed=protocol.seed)
        rows += [
            RegionRow(
                method=method,
                region=str(region),
                density=figure_of(mean_interval(relative[region].to_numpy(), patients)),
                rank=figure_of(ranks[str(region)]),
                role=roles.get(str(region), ""),
            )
            for region in wide.columns
        ]
    return sorted(rows, key=lambda r: (r.method, math.inf if r.rank.value is None else r.rank.value))


def mean_figures(table: pd.DataFrame, metric: str, target: int) -> dict[str, Figure]:
    """Mean over patients of a metric that is measured once a map: methods, null maps and kinds of twin.

    Twins are `twins:<method>` (those with random weights, averaged case by case) and `shuffled:<method>`.
    """
    from pipeline.comparison import mean_interval

    mine = table[(table.target == target) & (table.metric == metric) & (table.lesion == "")]
    mine = mine.assign(method=mine.method.str.replace(r"^twin-\d+:", "twins:", regex=True))
    bounds = (0.0, 1.0) if metric == "share_outside" else (-np.inf, np.inf)
    mine = mine.groupby(["method", "case", "patient"], sort=False)["value"].mean().reset_index()
    return {
        str(method).removeprefix(NULL): figure_of(
            mean_interval(part.value.to_numpy(), part.patient.to_numpy(), bounds=bounds)
        )
        for method, part in mine.groupby("method", sort=True)
    }


def find(
    criterion: Criterion,
    table: pd.DataFrame,
    target: int,
    skills: dict[str, Figure],
    rows: Sequence[Agreement],
    interventions: Interventions | None = None,
    trust: Trust | None = None,
) -> Found | None:
    """Return the number that a criterion bounds; None where it was not measured."""
    from pipeline.comparison import mean_interval
    from pipeline.findings.interventions import find_in_interventions

    if FINDINGS[criterion.name].stage in ("covariates", "interventions"):
        return find_in_interventions(criterion, interventions) if interventions else None
    if criterion.name in ("randomisation", "deletion"):
        return _find_in_trust(criterion, trust) if trust else None
    if criterion.name == "skill_auc":
        return Found(skills["auc"], 0.5) if "auc" in skills else None
    if criterion.name == "relevance_outside":
        mine = table[
            (table.target == target) & (table.metric == "share_outside") & (table.method == criterion.method)
        ]
        return Found(figure_of(mean_interval(mine.value.to_numpy(), mine.patient.to_numpy())))
    if criterion.name == "expected_regions":
        # of the cases for which the model speaks, as the report's table has it: where the logit is negative
        # there is next to no positive relevance that could lie anywhere, and the lift sits at its floor
        mean = next((r for r in rows if (r.method, r.metric) == (criterion.method, REGION_METRIC)), None)
        return Found(mean.figure, 0.0) if mean else None
    if criterion.name in ("lift_over_nulls", "lift_over_twins"):
        twins = criterion.name == "lift_over_twins"
        found = [row for row in rows if row.method == criterion.method and row.metric == "log2_mass_lift"]
        asked = [
            (f"{r.lesion.replace('_', ' ')} over {name}", d)
            for r in found
            for name, d in r.differences.items()
            if (name in TWINS) == twins and name != AVERAGE
        ]
        figures = [(name, d) for name, d in asked if d.low is not None]
        if not figures:
            return None
        # every lesion type against its hardest null or twin; the audit stands on the weakest of them. The
        # average mask knows the experts: where a disease lies always at one place nothing could beat it
        name, figure = min(figures, key=lambda f: f[1].low if f[1].low is not None else math.inf)
        few = ", ".join(name for name, d in asked if d.low is None)
        return Found(figure, 0.0, f"{name} (too few patients to judge {few})" if few else name)
    return None


def _find_in_trust(criterion: Criterion, trust: Trust) -> Found | None:
    """Return what was found when the maps of one method were questioned."""
    row = next((row for row in trust.maps if row.method == criterion.method), None)
    if row is None or (criterion.name == "deletion" and row.deletion is None):
        return None
    figure = row.deletion.over_random if criterion.name == "deletion" and row.deletion else row.left
    return Found(figure, 0.0)


def _margin(result: CaseResult, target: int) -> float:
    """Log odds of the target class against all others; where it is nearly sure the others tell how sure."""
    scores = result.row.scores
    others = math.fsum(score for index, score in enumerate(scores) if index != target)
    return math.log(max(scores[target], 1e-300)) - math.log(max(others, 1e-300))

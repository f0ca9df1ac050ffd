"""Lesions one by one, thresholded maps and subgroups, over the cohort."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.cohort import Cohort
from pipeline.findings.agreement import MAIN, REGIONS
from pipeline.protocol import Protocol
from pipeline.record.experts import ExpertFindings, GroupRow, LesionFinding, OverlapFinding, TwinRow
from pipeline.record.parts import Figure, figure_of
from pipeline.record.schema import CaseResult
from pipeline.stages.measuring import EXPERTS, NULL

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.comparison import Detections, OverlapCurve


def expert_findings(
    results: Sequence[CaseResult],
    table: pd.DataFrame,
    protocol: Protocol,
    cohort: Cohort,
    target: int,
    twins: Sequence[TwinRow],
    classes: Sequence[str],
) -> ExpertFindings:
    """Everything that is found beside `agreement_rows`.

    Parameters
    ----------
    results : sequence of CaseResult
    table : DataFrame
        Their measurements, see `pipeline.findings.overview.measurement_table`.
    protocol : Protocol
    cohort : Cohort
    target : int
        Class that is audited.
    twins : sequence of TwinRow
    classes : sequence of str

    Returns
    -------
    ExpertFindings
        Lesions and overlaps over the cases whose logit for the target is not negative.
    """
    marked = [r for r in results if r.detections]
    chosen = [r for r in marked if r.row.logit is None or r.row.logit >= 0]
    names = [m.name for m in protocol.methods]
    return ExpertFindings(
        twins=list(twins),
        lesions=_lesions(chosen, names, protocol.seed),
        overlaps=_overlaps(chosen, names),
        groups=group_rows(results, table, protocol, cohort, target, classes),
        smallest_group=protocol.smallest_group,
        negative=len(marked) - len(chosen),
        dice_of_experts=_dice_of_experts(table),
    )


def _dice_of_experts(table: pd.DataFrame) -> dict[str, Figure]:
    mine = table[(table.method == EXPERTS) & (table.metric == "dice")]
    return {
        str(lesion): _share(part.value.tolist(), part.patient.tolist())
        for lesion, part in mine.groupby("lesion", sort=True)
    }


def _lesions(results: Sequence[CaseResult], methods: Sequence[str], seed: int) -> list[LesionFinding]:
    from pipeline.comparison import froc, lesion_table

    present = dict.fromkeys(d.method for r in results for d in r.detections)
    ordered = [m for m in methods if m in present] + [m for m in present if m.startswith(NULL)]
    rows = []
    for method in ordered:
        cases, patients = _detections(results, method)
        lesions = sorted({lesion for case in cases for lesion in case.found})
        for row in lesion_table(cases, lesions, patients, seed=seed):
            curve = froc(cases, row.lesion, patients, seed=seed)
            rows.append(
                LesionFinding(
                    method=method,
                    lesion=row.lesion,
                    sensitivity=figure_of(row.sensitivity),
                    false_per_image=figure_of(row.false_per_image),
                    rates=list(curve.rates),
                    curve=[figure_of(value) for value in curve.sensitivity],
                    cpm=figure_of(curve.cpm),
                    lesions=row.lesions,
                    images=row.images,
                )
            )
    return rows


def _detections(results: Sequence[CaseResult], method: str) -> tuple[list[Detections], list[str]]:
    from pipeline.comparison import Detections

    cases, patients = [], []
    for result in results:
        for row in result.detections:
            if row.method != method:
                continue
            found = {
                lesion: np.array([-np.inf if score is None else score for score in scores], np.float64)
                for lesion, scores in row.found.items()
            }
            cases.append(Detections(np.array(row.false, np.float64), found))
            patients.append(result.patient)
    return cases, patients


def _overlaps(results: Sequence[CaseResult], methods: Sequence[str]) -> list[OverlapFinding]:
    from pipeline.comparison import best_fixed_threshold

    found: dict[tuple[str, str], tuple[list[OverlapCurve], list[str]]] = {}
    grown: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for result in results:
        for row in result.curves:
            curves, patients = found.setdefault((row.method, row.lesion), ([], []))
            dice, iou = (float("nan") if v is None else v for v in row.grown)
            grown.setdefault((row.method, row.lesion), []).append((dice, iou))
            curves.append(_curve(row))
            patients.append(result.patient)
    rows = []
    order = {name: index for index, name in enumerate(methods)}
    for (method, lesion), (curves, patients) in sorted(
        found.items(), key=lambda item: (item[0][1], order.get(item[0][0], len(order)))
    ):
        fixed = best_fixed_threshold(curves, patients)
        thresholds = [one.threshold for one in fixed if np.isfinite(one.threshold)]
        rows.append(
            OverlapFinding(
                method=method,
                lesion=lesion,
                otsu_dice=_share([c.otsu.dice for c in curves], patients),
                otsu_iou=_share([c.otsu.iou for c in curves], patients),
                grown_dice=_share([dice for dice, _ in grown[method, lesion]], patients),
                grown_iou=_share([iou for _, iou in grown[method, lesion]], patients),
                fixed_dice=_share([one.dice for one in fixed], patients),
                fixed_iou=_share([one.iou for one in fixed], patients),
                threshold=float(np.median(thresholds)) if thresholds else None,
            )
        )
    return rows


def _curve(row: object) -> OverlapCurve:
    from pipeline.comparison import Overlap, OverlapCurve
    from pipeline.record.experts import CurveRow

    assert isinstance(row, CurveRow)
    dice, iou, threshold = (float("nan") if v is None else v for v in row.otsu)
    return OverlapCurve(
        np.array(row.selected, np.int64),
        np.array(row.correct, np.int64),
        row.marked,
        Overlap(dice, iou, threshold, row.excluded),
        row.excluded,
    )


def _share(values: Sequence[float], patients: Sequence[str]) -> Figure:
    from pipeline.comparison import mean_interval

    return figure_of(mean_interval(values, patients, bounds=(0.0, 1.0)))


def group_rows(
    results: Sequence[CaseResult],
    table: pd.DataFrame,
    protocol: Protocol,
    cohort: Cohort,
    target: int,
    classes: Sequence[str],
) -> list[GroupRow]:
    """Right answers and agreement in every subgroup: age band, sex, site, eye, label, right and wrong."""
    import pandas as pd

    from pipeline.comparison import subgroups

    cases = case_table(results, cohort, classes)
    columns = [c for c in cases.columns if c != "case" and cases.loc[cases[c] != "", c].nunique() > 1]
    if not columns:
        return []
    right = pd.DataFrame(
        [
            {"case": r.row.case, "patient": r.patient, "method": "model", "target": target, "lesion": "",
             "metric": "correct", "value": float(r.row.correct)}
            for r in results
            if r.row.correct is not None
        ]
    )  # fmt: skip
    own = table[(table.target == target) & table.metric.isin(MAIN) & ~(table.logit < 0)].drop(columns="logit")
    own = own.assign(lesion=own.lesion.where(own.lesion != "", REGIONS))
    own = own[~own.method.str.contains(":")]
    rows = []
    for part, metric, by in (
        (right, "correct", [c for c in columns if c != "answer"]),
        *((own[own.metric == metric], metric, columns) for metric in MAIN),
    ):
        if part.empty or not by:
            continue
        found = subgroups(
            part, cases, by, metric=metric, smallest=protocol.smallest_group, seed=protocol.seed
        )
        rows += [_group(metric, row) for row in found.to_dict("records")]
    return rows


def case_table(results: Sequence[CaseResult], cohort: Cohort, classes: Sequence[str]) -> pd.DataFrame:
    """One row a case: to which subgroup it belongs; '' where that is not known."""
    import pandas as pd

    from pipeline.comparison import age_bands

    known = {case.case: case.covariates for case in cohort.cases}
    covariates = [known.get(r.row.case, {}) for r in results]
    ages = pd.to_numeric(pd.Series([c.get("age") for c in covariates], dtype=object), errors="coerce")
    answer = {True: "right", False: "wrong", None: ""}
    return pd.DataFrame(
        {
            "case": [r.row.case for r in results],
            "age band": age_bands(ages.to_numpy(np.float64)),
            **{name: [c.get(name, "") for c in covariates] for name in ("sex", "site", "eye")},
            "label": ["" if r.row.label is None else classes[r.row.label] for r in results],
            "answer": [answer[r.row.correct] for r in results],
        }
    )


def _group(metric: str, row: dict[object, object]) -> GroupRow:
    def number(name: str) -> float | None:
        value = row[name]
        return float(value) if isinstance(value, int | float) and np.isfinite(value) else None

    figure = Figure(
        value=number("value"),
        low=number("low"),
        high=number("high"),
        n=int(str(row["n"])),
        excluded=int(str(row["excluded"])),
    )
    return GroupRow(
        metric=metric,
        method="" if metric == "correct" else str(row["method"]),
        lesion=str(row["lesion"]),
        grouping=str(row["column"]),
        level=str(row["level"]),
        figure=figure,
        difference=number("difference"),
        p=number("p_adjusted"),
        note=str(row["note"]),
    )

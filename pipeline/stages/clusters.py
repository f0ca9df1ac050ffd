"""Clusters of the maps of a cohort: a model that goes by a cue has a group of maps of its own.

Maps are taken apart by the model's answer: between the answers they differ anyway. Of the cases called the
audited class what speaks for it is clustered, of the others what speaks against it, as in the original, which
looks at one class at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.cohort import Case, Cohort
from pipeline.record.clusters import Cluster, Clustering, TraitRow
from pipeline.record.schema import CaseResult
from pipeline.record.small_maps import BRAIN, FUNDUS, unpacked
from pipeline.record.trust import Trust
from pipeline.stages.audit import Audit
from pipeline.trust.over_represented import Trait, over_represented
from pipeline.trust.spray import LEVEL, Grouping, group_maps, neighbours_for, scatter_of, typical

LARGEST = 300
"""More maps of one answer are not clustered; those are drawn by the seed."""
TYPICAL = 3
SHOWN = 2
TRAIT_LEVEL = 0.05
LEVELS, NUMBERS = ("sex", "site"), ("age",)
MEASURES = {"share_outside": 0.1, "log2_rim_density": 0.5}
"""What is measured on maps, and by how much a group's median must be higher than the others' to count."""


@dataclass(frozen=True)
class _Question:
    """The maps of one method over the cases with one answer."""

    method: str
    called: bool
    results: list[CaseResult]
    left_out: int
    grouping: Grouping


def cluster_maps(audit: Audit, cohort: Cohort, results: Sequence[CaseResult], found: Trust) -> None:
    """Cluster the small maps of all cases, method by method, apart by what the model calls them.

    Parameters
    ----------
    audit : Audit
    cohort : Cohort
        Whose covariates are compared; none is kept of a single case.
    results : sequence of CaseResult
        With their small maps.
    found : Trust
        Its `clusters` are filled.
    """
    cases = {case.case: case for case in cohort.cases}
    questions = [
        _ask(audit, cases, method.name, called, results)
        for method in audit.protocol.methods
        for called in (True, False)
    ]
    adjusted = _adjusted([question.grouping.p for question in questions])
    made = [_clustering(audit, cases, question, p) for question, p in zip(questions, adjusted, strict=True)]
    separate = sorted((c for c in made if c.separate), key=lambda c: (not c.alarm, c.p_adjusted))
    for clustering in separate[:SHOWN]:
        clustering.shown = True
    found.clusters = made


def _ask(
    audit: Audit, cases: dict[str, Case], method: str, called: bool, results: Sequence[CaseResult]
) -> _Question:
    """Group the maps of one method, one image a patient."""
    seed, cells = audit.protocol.seed, BRAIN if audit.protocol.modality == "mri" else FUNDUS
    answered = sorted(
        (r for r in results if (r.row.predicted == audit.target) == called and method in r.small_maps),
        key=lambda r: r.row.case,
    )
    one_each: dict[str, CaseResult] = {}
    for index in np.random.default_rng(seed).permutation(len(answered)):
        one_each.setdefault(answered[index].patient, answered[index])
    chosen = sorted(list(one_each.values())[:LARGEST], key=lambda r: r.row.case)
    maps = np.array([unpacked(r.small_maps[method], cells).ravel() for r in chosen])
    eyes = [cases[r.row.case].covariates.get("eye", "").lower() for r in chosen]
    grouping = group_maps(maps.reshape(len(chosen), 2 * math.prod(cells)), eyes, seed=seed)
    kept = [r for r, keep in zip(chosen, grouping.kept, strict=True) if keep]
    return _Question(method, called, kept, len(answered) - len(kept), grouping)


def _adjusted(p_values: Sequence[float]) -> list[float]:
    """Correct over all that could be asked; what could not stays NaN."""
    from pipeline.comparison import benjamini_hochberg

    return [float(p) for p in benjamini_hochberg(np.array(p_values, np.float64))]


def _clustering(audit: Audit, cases: dict[str, Case], question: _Question, p: float) -> Clustering:
    grouping = question.grouping
    made = Clustering(
        method=question.method,
        called=question.called,
        n=len(question.results),
        left_out=question.left_out,
        reason=grouping.reason,
    )
    if grouping.reason:
        return made
    made.neighbours = neighbours_for(made.n)
    made.eigenvalues = [round(max(float(v), 0.0), 6) for v in grouping.eigenvalues]
    made.within, made.valley, made.null, made.p_adjusted = grouping.within, grouping.valley, grouping.null, p
    made.separate, made.by_gap = p <= LEVEL, grouping.by_gap
    labels = grouping.labels if made.separate else np.full(made.n, -1)
    places = scatter_of(grouping.placed, seed=audit.protocol.seed)
    dots = sorted(
        (round(float(x), 3), round(float(y), 3), int(g)) for (x, y), g in zip(places, labels, strict=True)
    )
    made.scatter = dots
    if made.separate:
        traits = _traits(audit, cases, question)
        made.clusters = [_cluster(question, group, traits) for group in range(grouping.groups)]
        made.alarm = any(cluster.traits for cluster in made.clusters)
    return made


def _cluster(question: _Question, group: int, traits: Sequence[Trait]) -> Cluster:
    members = np.flatnonzero(question.grouping.labels == group)
    features, placed = question.grouping.features[members], question.grouping.placed[members]
    names = [question.results[i].row.case for i in members]
    return Cluster(
        cases=names,
        typical=[names[i] for i in typical(placed, TYPICAL)],
        mean_map=[round(float(v), 7) for v in (features**2).mean(axis=0)],
        traits=[
            TraitRow(
                name=t.name,
                level=t.level,
                inside=t.inside,
                outside=t.outside,
                n=t.n,
                p_adjusted=t.p_adjusted,
            )
            for t in traits
            if t.group == group and t.p_adjusted <= TRAIT_LEVEL and _matters(t)
        ],
    )


def _traits(audit: Audit, cases: dict[str, Case], question: _Question) -> list[Trait]:
    """Compare the groups' covariates, true classes, and where else their relevance lies."""
    of = [cases[r.row.case].covariates for r in question.results]
    levels = {name: [c.get(name, "") for c in of] for name in LEVELS}
    levels["label"] = ["" if r.row.label is None else audit.classes[r.row.label] for r in question.results]
    return over_represented(
        question.grouping.labels,
        levels,
        {name: [_number(c.get(name, "")) for c in of] for name in NUMBERS},
        {name: [_measured(audit, r, question.method, name) for r in question.results] for name in MEASURES},
        smallest=audit.protocol.smallest_group,
    )


def _matters(trait: Trait) -> bool:
    return trait.name not in MEASURES or trait.inside - trait.outside >= MEASURES[trait.name]


def _measured(audit: Audit, result: CaseResult, method: str, metric: str) -> float:
    values = [
        row.value
        for row in result.measurements
        if (row.method, row.target, row.metric) == (method, audit.target, metric)
    ]
    return values[0] if values and values[0] is not None else math.nan


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan

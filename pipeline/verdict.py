"""Criteria in; sound, flagged or inconclusive out.

The order is fixed: skill → covariates → what the decision rests on (interventions) → agreement with experts
→ maps. Without skill nothing else is judged. Maps illustrate: they depend on the method as much as on the
model, so that agreement and maps can hold *sound* back but never accuse. Only an intervention can make a
model *sound*; an audit without one is *inconclusive* at best.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.errors import ProtocolError
from pipeline.protocol import Criterion
from pipeline.record.schema import CriterionResult, Figure, Verdict

Stage = Literal["skill", "covariates", "interventions", "agreement", "maps"]
STAGES: tuple[Stage, ...] = ("skill", "covariates", "interventions", "agreement", "maps")
ACCUSING: tuple[Stage, ...] = ("skill", "covariates", "interventions")
"""Stages that measure the decision itself; the others look at maps of it."""
NOT_SWAPPED = "not swapped: "
"""How the detail of a finding begins that no number of patients would give."""
ABOVE_CHANCE, ABOVE_NOTHING = 0.5 - 1e-9, -1e-9
CHANCE: Mapping[float, float] = {ABOVE_CHANCE: 0.5, ABOVE_NOTHING: 0.0}
"""Limits that a bound may itself be."""


@dataclass(frozen=True)
class Finding:
    """One kind of number that a criterion can bound.

    Attributes
    ----------
    title : str
        As the report prints it.
    stage : {"skill", "covariates", "interventions", "agreement", "maps"}
    per_method : bool
        Whether it is made once for each attribution method.
    fault : str
        What is wrong with the model if the bound is not met; names the factor.
    missing : str
        What would settle it if the interval is undecided.
    bound : {"at_least", "at_most"}
        Which bound a model can miss by being unsound.
    within : (float, float)
        The bound lies strictly between: beyond, any model would meet it, or none could.
    modalities : tuple of str
        Where it can be made.
    """

    title: str
    stage: Stage
    per_method: bool
    fault: str
    missing: str
    bound: Literal["at_least", "at_most"]
    within: tuple[float, float] = (-math.inf, math.inf)
    modalities: tuple[str, ...] = ("mri", "fundus")


FINDINGS: Mapping[str, Finding] = {
    "skill_auc": Finding(
        "Area under the ROC curve on this cohort",
        "skill",
        per_method=False,
        fault="the model does not separate the classes on this cohort",
        missing="more patients of both classes with a label",
        bound="at_least",
        within=(ABOVE_CHANCE, 1),
    ),
    "covariate_link": Finding(
        "Correlation of the score with age within the classes (|ρ|)",
        "covariates",
        per_method=False,
        fault="the score follows a covariate among cases of one class",
        missing="more patients of each class with their age",
        bound="at_most",
        within=(0, 1),
    ),
    "target_share": Finding(
        "Share of the class gap carried by the disease (expected regions, or lesions)",
        "interventions",
        per_method=False,
        fault="too little of the decision rests on where the disease is",
        missing="more patients of both classes, registered or with expert marks, for the factor swap",
        bound="at_least",
        within=(0, 1),
    ),
    "outside_share": Finding(
        "Share of the class gap carried by what lies outside the anatomy",
        "interventions",
        per_method=False,
        fault="part of the decision rests on what lies outside the anatomy",
        missing="more patients of both classes, so that the share of the outside is known to be small",
        bound="at_most",
        within=(0, 1),
    ),
    "other_share": Finding(
        "Largest share of the class gap carried by anything else (the rest of a brain apart)",
        "interventions",
        per_method=False,
        fault="the decision rests on something other than the disease",
        missing="more patients of both classes, so that all other shares are known to be small",
        bound="at_most",
        within=(0, 1),
    ),
    "cue_shift": Finding(
        "Largest shift of the score by a stamped cue that must not matter (standard deviations)",
        "interventions",
        per_method=False,
        fault="a cue that must not matter moves the decision",
        missing="more patients of each class, to be tried with cues",
        bound="at_most",
        within=(0, math.inf),
    ),
    "removal_effect": Finding(
        "Fall of the score when marked lesions are filled in, beyond the same shapes elsewhere (logits)",
        "interventions",
        per_method=False,
        fault="the score does not fall when what the experts marked is taken away",
        missing="more patients with expert marks, whose lesions are filled in",
        bound="at_least",
        within=(ABOVE_NOTHING, math.inf),
        modalities=("fundus",),
    ),
    "lift_over_nulls": Finding(
        "Relevance on expert marks over the best null map (paired log₂ lift)",
        "agreement",
        per_method=True,
        fault="relevance meets the expert marks no better than a map that ignores the model",
        missing="more patients with expert marks",
        bound="at_least",
    ),
    "lift_over_twins": Finding(
        "Relevance on expert marks over twins of the model (paired log₂ lift)",
        "agreement",
        per_method=True,
        fault="relevance meets the expert marks no better than that of a model which has learnt nothing",
        missing="more patients with expert marks, to be compared with twins of the model",
        bound="at_least",
    ),
    "expected_regions": Finding(
        "Relevance density of the regions expected for the disease (log₂ over the brain's mean)",
        "agreement",
        per_method=True,
        fault="relevance does not favour the regions expected for the disease",
        missing="more patients whose brain is registered to the atlas and whom the model calls so",
        bound="at_least",
        modalities=("mri",),
    ),
    "relevance_outside": Finding(
        "Share of relevance outside the brain or the field of view",
        "maps",
        per_method=True,
        fault="relevance lies outside the anatomy",
        missing="more patients",
        bound="at_most",
        within=(0, 1),
    ),
    "randomisation": Finding(
        "What is left of the map when weights are redrawn (1: all, 0: no more than of random models)",
        "maps",
        per_method=True,
        fault="the map hardly depends on what the model has learnt",
        missing="a map that takes few forward passes, of six patients or more, while weights are redrawn",
        bound="at_most",
        within=(0, 1),
    ),
    "deletion": Finding(
        "Fall of the score when the most relevant patches go first, beyond random order (AOPC, logits)",
        "maps",
        per_method=True,
        fault="the score does not fall where the map says",
        missing="more patients whose images are deleted patch by patch",
        bound="at_least",
        within=(ABOVE_NOTHING, math.inf),
    ),
}


@dataclass(frozen=True)
class Found:
    """What was measured for one finding.

    Attributes
    ----------
    figure : pipeline.record.schema.Figure
    null : float or None
        What chance or the null reaches.
    detail : str
        Which factor or cue it is of, where there are several.
    """

    figure: Figure
    null: float | None = None
    detail: str = ""


def check_criteria(criteria: Sequence[Criterion], modality: str, methods: Sequence[str]) -> None:
    """Refuse criteria that no run of this protocol could answer.

    Raises
    ------
    pipeline.errors.ProtocolError
        One line that names every such criterion.
    """
    mistakes = []
    for c in criteria:
        finding = FINDINGS.get(c.name)
        if finding is None:
            mistakes.append(f"unknown criterion {c.name!r} (known: {', '.join(FINDINGS)})")
        elif modality not in finding.modalities:
            mistakes.append(f"criterion {c.name!r} cannot be measured on {modality}")
        elif finding.per_method and c.method not in methods:
            mistakes.append(f"criterion {c.name!r} needs method: one of {', '.join(methods)}")
        elif not finding.per_method and c.method is not None:
            mistakes.append(f"criterion {c.name!r} is not made per method")
    if mistakes:
        raise ProtocolError("; ".join(mistakes), "mend the criteria of the protocol")


def idle_bound(criterion: Criterion) -> str:
    """Say why a bound cannot tell a sound model from another; empty if it can.

    Such a criterion is answered, but counts for nothing in the verdict.
    """
    finding = FINDINGS[criterion.name]
    value = criterion.at_least if finding.bound == "at_least" else criterion.at_most
    low, high = finding.within
    if value is None:
        return f"a model is unsound from the other side, write {finding.bound}"
    if low < value < high:
        return ""
    span = f"above {low:g}" if low not in CHANCE else f"{CHANCE[low]:g} or more"
    return f"a bound has to be {span}" + (f" and below {high:g}" if high < math.inf else "")


def judge(criterion: Criterion, found: Found | None) -> CriterionResult:
    """Hold one finding's 95 % interval against its bound.

    Met when the whole interval lies on the right side, not met when it lies on the wrong side, undecided
    when it straddles the bound or could not be made: nothing passes for lack of data.
    """
    figure = found.figure if found else Figure()
    low, high = figure.low, figure.high
    answer: Literal["met", "not met", "undecided"] = "undecided"
    if criterion.at_least is not None:
        bound = f"at least {criterion.at_least:g}"
        if low is not None and high is not None:
            answer = (
                "met" if low >= criterion.at_least else "not met" if high < criterion.at_least else answer
            )
    else:
        assert criterion.at_most is not None
        bound = f"at most {criterion.at_most:g}"
        if low is not None and high is not None:
            answer = "met" if high <= criterion.at_most else "not met" if low > criterion.at_most else answer
    return CriterionResult(
        name=criterion.name,
        title=FINDINGS[criterion.name].title,
        method=criterion.method,
        bound=bound,
        value=figure.value,
        low=low,
        high=high,
        null=found.null if found else None,
        n=figure.n,
        answer=answer,
        reason=criterion.reason,
        detail=found.detail if found else "",
        idle=idle_bound(criterion),
    )


def decide(results: Sequence[CriterionResult]) -> Verdict:
    """Turn answered criteria into the verdict.

    Parameters
    ----------
    results : sequence of CriterionResult

    Returns
    -------
    Verdict
        *flagged* if any criterion of skill, covariates or interventions is not met, naming each fault, in the
        order of the stages, and skill alone where skill is missing, since nothing else can then be judged;
        *inconclusive* if any criterion is undecided or bounded so that it says nothing, if one of agreement
        or maps is not met, if there is no criterion of skill, or if nothing was intervened upon;
        *sound* otherwise, with respect to the listed factors only.
    """
    telling = [r for r in results if not r.idle]
    ordered = sorted(telling, key=lambda r: STAGES.index(FINDINGS[r.name].stage))
    if any(r.answer == "not met" and FINDINGS[r.name].stage == "skill" for r in ordered):
        ordered = [r for r in ordered if FINDINGS[r.name].stage == "skill"]
    unmet = [r for r in ordered if r.answer == "not met"]
    faults = [_name(r, FINDINGS[r.name].fault) for r in unmet if FINDINGS[r.name].stage in ACCUSING]
    if faults:
        return Verdict(answer="flagged", factors=faults, sentence=f"Flagged: {'; '.join(faults)}.")
    missing = [_name(r, FINDINGS[r.name].missing) for r in ordered if r.answer == "undecided"]
    missing += [f"an explanation why {_name(r, FINDINGS[r.name].fault)}" for r in unmet]
    missing += [f"a bound of {r.name} that tells something: {r.idle}" for r in results if r.idle]
    stages = {FINDINGS[r.name].stage for r in telling}
    if "skill" not in stages:
        missing.append("a criterion of skill, since a model without skill cannot be judged")
    if "interventions" not in stages:
        missing.append("interventions: maps show where relevance lies, not what the decision rests on")
    if missing:
        return Verdict(
            answer="inconclusive",
            factors=missing,
            sentence=f"Inconclusive. It would take: {'; '.join(missing)}.",
        )
    titles = [r.title for r in ordered]
    return Verdict(
        answer="sound",
        factors=titles,
        sentence=f"Sound with respect to: {'; '.join(titles)}. Nothing else was tested.",
    )


def _name(result: CriterionResult, text: str) -> str:
    if result.method:
        return f"{text} ({result.method})"
    if result.answer == "undecided" and result.detail.startswith(NOT_SWAPPED):
        return f"a factor swap, which was not possible: {result.detail.removeprefix(NOT_SWAPPED)}"
    return f"{text}: {result.detail}" if result.detail and result.answer == "not met" else text

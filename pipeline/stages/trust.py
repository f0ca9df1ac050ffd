"""Whether the maps of a cohort can be trusted: which cases are asked, in which order, and what is kept."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from pipeline.cohort import Case, Cohort
from pipeline.errors import AuditError
from pipeline.record.kept import keep, take_up
from pipeline.record.schema import CaseResult
from pipeline.record.trust import Trust
from pipeline.stages.audit import Audit
from pipeline.stages.clusters import cluster_maps
from pipeline.stages.map_trust import Questions
from pipeline.stages.method_card import CardPlan
from pipeline.trust.cost import timed

T = TypeVar("T")
MAKING = "trust/2"
"""Raised when what is computed here changes, so that stored results are not taken for the new ones."""


def assess(audit: Audit, cohort: Cohort, results: Sequence[CaseResult]) -> Trust:
    """Question the maps of some cases, measure every method, and cluster the maps of all cases.

    Parameters
    ----------
    audit : Audit
    cohort : Cohort
    results : sequence of CaseResult
        Of every case that could be done.

    Returns
    -------
    Trust
        Also written to `trust.json`; read from there if nothing that it depends on has changed. What could
        not be done is a note, never an exception for bad data.
    """
    key = _key(audit, cohort, results)
    path = audit.folder / "trust.json"
    kept = take_up(path, Trust, key)
    if kept is not None:
        return kept
    begin = time.perf_counter()
    found = Trust(key=key)
    chosen = choose_cases(audit, cohort, results)
    found.cases = [case.case for case in chosen]
    questions = _try("trust of the maps", lambda: Questions(audit, chosen), found)
    plan = _try("method card", lambda: CardPlan(audit, chosen), found)
    if plan is not None:
        _announce(audit, questions, plan, found)
    if questions is not None:
        _try("trust of the maps", lambda: questions.answer(found), found)
    if plan is not None:
        _try("method card", lambda: plan.measure(found), found)
    _try("clusters", lambda: cluster_maps(audit, cohort, results, found), found)
    found.seconds = round(time.perf_counter() - begin, 1)
    keep(path, found)
    return found


def _try(name: str, step: Callable[[], T], found: Trust) -> T | None:
    """Do a step; what could not be done is a note."""
    try:
        return step()
    except AuditError as error:
        found.notes.append(f"{name}: {error}")
        return None


def _announce(audit: Audit, questions: Questions | None, plan: CardPlan, found: Trust) -> None:
    """Say in the log what questions and method card will take, before they do."""
    from pipeline.attribution import logits

    if not plan.cases:
        return
    image, module = plan.cases[0].image, audit.model.module
    logits(module, image)  # the first pass may have to capture the model
    _, seconds = timed(lambda: logits(module, image))
    found.passes += 2
    expected = [found.passes, questions.expected_passes() if questions else 0, plan.expected_passes()]
    found.expected_passes = sum(expected)
    logging.getLogger(f"relevance_audit.{audit.folder.name}.trust").info(
        "trust of the maps: about %d forward passes, %d of them for the method card; the passes alone take "
        "some %.0f s",
        found.expected_passes,
        expected[-1],
        found.expected_passes * seconds,
    )


def choose_cases(audit: Audit, cohort: Cohort, results: Sequence[CaseResult]) -> list[Case]:
    """Draw the cases that are asked, by the protocol's seed, one a patient, both predictions alike.

    Parameters
    ----------
    audit : Audit
    cohort : Cohort
    results : sequence of CaseResult

    Returns
    -------
    list of Case
        At most as many as the protocol's `trust.cases`.
    """
    by_name = {case.case: case for case in cohort.cases}
    sides: dict[bool, list[CaseResult]] = {True: [], False: []}
    patients: set[str] = set()
    ordered = sorted(results, key=lambda r: r.row.case)
    for index in np.random.default_rng(audit.protocol.seed).permutation(len(ordered)):
        result = ordered[index]
        if result.patient not in patients:
            patients.add(result.patient)
            sides[result.row.predicted == audit.target].append(result)
    chosen: list[Case] = []
    while len(chosen) < audit.protocol.trust.cases and any(sides.values()):
        side = sides[len(chosen) % 2 == 0] or sides[len(chosen) % 2 == 1]
        chosen.append(by_name[side.pop(0).row.case])
    return chosen


def _key(audit: Audit, cohort: Cohort, results: Sequence[CaseResult]) -> str:
    known = sorted((case.case, sorted(case.covariates.items())) for case in cohort.cases)
    parts = [MAKING, audit.settings_key, sorted(r.key for r in results), audit.protocol.trust.cases]
    parts += [known, audit.protocol.smallest_group]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

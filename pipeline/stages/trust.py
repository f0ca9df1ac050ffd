"""Whether the maps of a cohort can be trusted: which cases are asked, in which order, and what is kept."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence

import numpy as np
from pydantic import ValidationError

from pipeline.cohort import Case, Cohort
from pipeline.errors import AuditError
from pipeline.files import write_text
from pipeline.record.schema import CaseResult
from pipeline.record.trust import Trust
from pipeline.stages.audit import Audit
from pipeline.stages.clusters import cluster_maps
from pipeline.stages.map_trust import question_maps
from pipeline.stages.method_card import measure_cards

MAKING = "trust/1"
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
    try:
        stored = Trust.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError):
        stored = None
    if stored is not None and stored.key == key:
        return stored
    begin = time.perf_counter()
    found = Trust(key=key)
    chosen = choose_cases(audit, cohort, results)
    found.cases = [case.case for case in chosen]
    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        ("trust of the maps", lambda: question_maps(audit, chosen, found)),
        ("method card", lambda: measure_cards(audit, chosen, found)),
        ("clusters", lambda: cluster_maps(audit, cohort, results, found)),
    )
    for name, step in steps:
        try:
            step()
        except AuditError as error:
            found.notes.append(f"{name}: {error}")
    found.seconds = round(time.perf_counter() - begin, 1)
    write_text(path, found.model_dump_json(indent=1) + "\n")
    return found


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

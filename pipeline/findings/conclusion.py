"""From the results of all cases to a finished audit directory."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.cohort import Cohort
from pipeline.errors import AnatomyError
from pipeline.files import whole_file, write_text
from pipeline.findings.agreement import agreement_rows, drop_zero_maps
from pipeline.findings.concepts import concept_findings
from pipeline.findings.experts import expert_findings
from pipeline.findings.overview import find, mean_figures, measurement_table, region_rows, skill
from pipeline.provenance import machine, peak_memory_mb, versions
from pipeline.record.clusters import pictured
from pipeline.record.interventions import Interventions
from pipeline.record.schema import (
    Agreement,
    AuditRecord,
    CaseResult,
    CaseRow,
    CohortSummary,
    ErrorRow,
    MethodRow,
    ModelSummary,
    Provenance,
    Role,
    write_record,
)
from pipeline.record.trust import Trust
from pipeline.stages.audit import Audit
from pipeline.stages.twins import known_twins
from pipeline.verdict import decide, judge

if TYPE_CHECKING:
    import pandas as pd

REFUSED_SHOWN = 6  # brains without regions whose picture the report shows
LIMITS = (
    "A relevance map shows where a decision comes from, not whether the reason is medically right.",
    "Only the listed factors were tested; a shortcut that the cohort does not contain cannot be found.",
    "Relevance is computed at the resolution of the model's input; finer lesions cannot be told apart.",
)


def conclude(
    audit: Audit,
    cohort: Cohort,
    results: Sequence[CaseResult],
    errors: Sequence[ErrorRow],
    started: str,
    finished: str,
    seconds: float,
    interventions: Interventions | None = None,
    trust: Trust | None = None,
) -> AuditRecord:
    """Find, judge and write down: `measurements.parquet`, `protocol.yaml` and `audit.json`.

    Parameters
    ----------
    audit : Audit
    cohort : Cohort
    results : sequence of CaseResult
        Of every case that could be done.
    errors : sequence of ErrorRow
        Of every case that could not.
    started, finished : str
        ISO 8601, UTC.
    seconds : float
        Wall time of the run.
    interventions : Interventions, optional
        What was swapped, stamped and removed.
    trust : Trust, optional
        How far the maps can be trusted.

    Returns
    -------
    AuditRecord
    """
    protocol, target = audit.protocol, audit.target
    table = measurement_table(results)
    skills = skill(results, target, protocol.seed)
    comparable, twins = drop_zero_maps(table, known_twins(audit.model, protocol, audit.folder))
    agreement = agreement_rows(comparable, protocol, target)
    criteria = [
        judge(c, find(c, table, target, skills, agreement, interventions, trust)) for c in protocol.criteria
    ]
    rows = choose_pages([r.row for r in results], protocol.case_pages)
    record = AuditRecord(
        title=protocol.title or f"Audit of {_model_name(audit)}",
        modality=protocol.modality,
        disease=protocol.disease,
        target=target,
        verdict=decide(criteria),
        criteria=criteria,
        model=_model_summary(audit),
        cohort=_cohort_summary(cohort, results, audit.classes),
        skill=skills,
        methods=_method_rows(audit, table, errors, results),
        agreement=agreement,
        experts=expert_findings(results, table, protocol, cohort, target, twins, audit.classes),
        regions=region_rows(table, protocol, target, _roles(table, protocol.disease)),
        shares={
            "outside": mean_figures(table, "share_outside", target),
            "log2_rim_density": mean_figures(table, "log2_rim_density", target),
            "checkerboard": mean_figures(table, "checkerboard", target),
        },
        cases=rows,
        errors=[*errors, *(e for r in results for e in r.errors)],
        atlas=_atlas_summary(audit),
        interventions=interventions,
        concepts=concept_findings(audit, results, rows),
        trust=trust,
        provenance=Provenance(
            versions=versions(),
            seed=protocol.seed,
            threads=_threads(),
            started=started,
            finished=finished,
            wall_seconds=round(seconds, 1),
            peak_memory_mb=round(peak_memory_mb()),
            inputs={
                f"{r.row.case}/{role}": digest for r in results for role, digest in sorted(r.inputs.items())
            },
            platform=machine(),
        ),
        limits=[*_limits(audit, cohort, agreement), *LIMITS],
    )
    with whole_file(audit.folder / "measurements.parquet") as part:
        table.to_parquet(part, index=False)
    write_text(audit.folder / "protocol.yaml", protocol.as_yaml())
    write_record(audit.folder, record)
    return record


def choose_pages(rows: Sequence[CaseRow], pages: int) -> list[CaseRow]:
    """Choose the cases that get a page: wrong ones by confidence, then the most typical of each class.

    Parameters
    ----------
    rows : sequence of CaseRow
    pages : int
        At most so many.

    Returns
    -------
    list of CaseRow
        All rows in their order, `page` set.
    """
    wrong = sorted((r for r in rows if r.correct is False), key=_confidence, reverse=True)
    other: list[CaseRow] = []
    by_class: dict[int | None, list[CaseRow]] = {}
    for row in sorted((r for r in rows if r.correct is not False), key=_confidence, reverse=True):
        by_class.setdefault(row.predicted, []).append(row)
    while any(by_class.values()):
        other += [
            queue.pop(0) for _, queue in sorted(by_class.items(), key=lambda item: -(item[0] or 0)) if queue
        ]
    chosen = {row.case for row in [*wrong, *other][:pages]}
    return [row.model_copy(update={"page": row.case in chosen}) for row in rows]


def tidy(audit: Audit, record: AuditRecord) -> None:
    """Keep of maps and case files what the protocol asks for, nothing of cases outside the cohort."""
    keep = audit.protocol.keep_maps
    pages = {row.case for row in record.cases if row.page}
    cases = {row.case for row in record.cases}
    wanted = {"all": cases, "selected": pages, "none": set()}[keep]
    for folder in sorted((audit.folder / "maps").glob("*")):
        if folder.name not in wanted:
            shutil.rmtree(folder)
    refused = [row.case for row in record.cases if row.regions_registered is False]
    shown = pages | set(refused[:REFUSED_SHOWN])
    shown |= pictured(record.trust.clusters) if record.trust else set()
    for path in sorted((audit.folder / "cases").glob("*.npz")):
        if path.stem not in shown:
            path.unlink()
    for path in sorted((audit.folder / "cases").glob("*.json")):
        if path.stem not in cases:
            path.unlink()


def _confidence(row: CaseRow) -> float:
    return row.scores[row.predicted] if row.predicted is not None and row.scores else 0.0


def _model_name(audit: Audit) -> str:
    return audit.model.card.name if audit.model.card else "a model without a card"


def _model_summary(audit: Audit) -> ModelSummary:
    card = audit.model.card
    return ModelSummary(
        name=_model_name(audit),
        sha256=audit.model.sha256,
        architecture=card.architecture if card else "TorchScript",
        classes=list(audit.classes),
        trained_on=card.trained_on if card else "",
        performance=[p.model_dump() for p in card.performance] if card else [],
        credits=list(card.credits) if card else [],
        limits=card.limits if card else "",
        notes=list(audit.model.notes),
    )


def _cohort_summary(cohort: Cohort, results: Sequence[CaseResult], classes: Sequence[str]) -> CohortSummary:
    labels = Counter(classes[r.row.label] if r.row.label is not None else "no label" for r in results)
    return CohortSummary(
        source=cohort.source,
        cases=len(cohort.cases),
        patients=len({c.patient for c in cohort.cases}),
        patients_given=cohort.patients_given,
        audited=len(results),
        labels=dict(sorted(labels.items())),
        marks=dict(sorted(Counter(lesion for case in cohort.cases for lesion in case.marks).items())),
    )


def _method_rows(
    audit: Audit, table: pd.DataFrame, errors: Sequence[ErrorRow], results: Sequence[CaseResult]
) -> list[MethodRow]:
    from pipeline.attribution import METHODS

    rows = []
    for method in audit.protocol.methods:
        card = METHODS[method.name]
        mine = table[
            (table.method == method.name) & (table.metric == "seconds") & (table.target == audit.target)
        ]
        refused = [e.reason for r in results for e in r.errors if e.stage == method.name]
        refused += [e.reason for e in errors if e.stage == method.name]
        rows.append(
            MethodRow(
                name=method.name,
                title=card.title,
                family=card.family,
                signed=card.signed,
                class_discriminative=card.class_discriminative,
                forward_passes=card.cost,
                seconds=float(mine.value.median()) if len(mine) else None,
                source=card.source,
                options=method.options,
                cases=len(mine),
                note=f"not made for {len(refused)} cases: {refused[0]}" if refused else "",
            )
        )
    return rows


def _roles(table: pd.DataFrame, disease: str) -> dict[str, Role]:
    """Which of the regions that were measured are expected, and which are controls."""
    from atlases import expected_regions

    names = dict(enumerate(sorted(name for name in table["region"].unique() if name), 1))
    try:
        expected = expected_regions(disease, names)
    except AnatomyError:  # no regions at all, or none that the disease names
        return {}
    roles: dict[str, Role] = {names[i]: "expected" for i in expected.labels()}
    roles |= {names[i]: "control" for i in expected.negative_labels}
    return roles


def _atlas_summary(audit: Audit) -> dict[str, str]:
    if audit.atlas is None:
        return {}
    return {
        "name": audit.atlas.name,
        "licence": audit.atlas.licence,
        "source": audit.atlas.source,
        "space": audit.atlas.space,
    }


def _limits(audit: Audit, cohort: Cohort, agreement: Sequence[Agreement]) -> list[str]:
    limits = []
    if audit.model.card and audit.model.card.limits:
        limits.append(audit.model.card.limits)
    if not cohort.patients_given:
        limits.append(
            "No patients were given: every image counts as its own patient, so intervals may be too narrow."
        )
    if not agreement:
        limits.append("No expert marks: maps were not compared with what experts saw.")
    if any(row.figure.excluded for row in agreement):
        limits.append("Cases whose expert mask is empty are left out of the agreement and counted.")
    return limits


def _threads() -> int:
    import torch

    return torch.get_num_threads()

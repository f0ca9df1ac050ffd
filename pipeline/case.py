"""What happens to one case, start to end: a plain function that knows nothing of Prefect."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from pipeline.cohort import Case
from pipeline.errors import AnatomyError, ModelError
from pipeline.files import sha256_of, write_text
from pipeline.images import Photograph, Volume, read_photograph, read_volume
from pipeline.record import small_maps
from pipeline.record.cases import regions_found
from pipeline.record.schema import CaseResult, CaseRow, write_arrays
from pipeline.stages.audit import Audit
from pipeline.stages.average_marks import AVERAGE
from pipeline.stages.marks import masks_of_experts
from pipeline.stages.measuring import CaseWork
from pipeline.stages.regions import regions_on

if TYPE_CHECKING:
    from pipeline.anatomy.brain import Regions

BoolArray = npt.NDArray[np.bool_]


def input_hashes(case: Case) -> dict[str, str]:
    """SHA-256 of every file of a case, by role (`image`, `regions`, `marks_<lesion>_<n>`)."""
    files = {"image": case.image}
    if case.regions is not None:
        files["regions"] = case.regions
        if case.regions_table is not None:
            files["regions_table"] = case.regions_table
    for lesion, paths in case.marks.items():
        files |= {f"marks_{lesion}_{n}": path for n, path in enumerate(paths)}
    return {role: sha256_of(path) for role, path in files.items()}


def case_key(case: Case, audit: Audit, hashes: Mapping[str, str]) -> str:
    """Hash of everything that the result of a case depends on."""
    others = audit.marks_key if case.marks and AVERAGE in audit.protocol.nulls else ""
    text = json.dumps(
        [
            case.case,
            case.patient,
            case.label,
            case.covariates.get("eye", ""),
            sorted(hashes.items()),
            audit.settings_key,
            others,
            small_maps.VERSION,
        ]
    )
    return hashlib.sha256(text.encode()).hexdigest()


def finished_case(case: Case, audit: Audit) -> CaseResult | None:
    """Return the stored result of a case if inputs, model, protocol and versions are still the same."""
    path = audit.folder / "cases" / f"{case.case}.json"
    try:
        result = CaseResult.model_validate_json(path.read_text(encoding="utf-8"))
        current = case_key(case, audit, input_hashes(case))
    except (OSError, UnicodeDecodeError, ValidationError):
        return None
    return result if result.key == current else None


def audit_case(case: Case, audit: Audit) -> CaseResult:
    """Read a case, make and measure its maps, and store the result.

    Parameters
    ----------
    case : Case
    audit : Audit

    Returns
    -------
    CaseResult
        Also written to `cases/<case>.json` (last of all), with `cases/<case>.npz` for the report and the maps
        below `maps/<case>/`. A method that fails is an error row, and does not take the others down.

    Raises
    ------
    pipeline.errors.AuditError
        If the image or a mask cannot be used, or the model refuses it.
    """
    begin = time.perf_counter()
    hashes = input_hashes(case)
    image = _read(case, audit.protocol.modality)
    single = {lesion: masks_of_experts(paths, image) for lesion, paths in case.marks.items()}
    from pipeline.comparison import consensus

    marks = {lesion: consensus(list(masks.values())) for lesion, masks in single.items()}
    prepared = audit.model.prepare(image)
    from pipeline.attribution import logits as logits_of

    logits = logits_of(audit.model.module, prepared.tensor)[0].double()
    if not bool(logits.isfinite().all()):
        raise ModelError(
            f"{case.image.name}: the model's scores of it are not finite", "find out where it divides by zero"
        )
    row = CaseRow(
        case=case.case,
        label=case.class_index(audit.classes),
        predicted=int(logits.argmax()),
        scores=logits.softmax(0).tolist(),
        logit=float(logits[audit.target]),
    )
    if float(logits[audit.target]) < 0:
        row.notes.append("negative logit for the audited class")
    regions = regions_on(case, image, prepared, audit)
    if regions is not None:
        row.registration = regions_found(regions)
        row.notes += regions.notes
        row.regions_registered = regions.registered
        if not regions.registered:
            row.notes.append(f"not registered: {regions.reason}")
    work = CaseWork(case, audit, prepared, marks, regions, row)
    wrong = (row.predicted, row.label) if row.correct is False else ()
    targets = sorted({audit.target, *(t for t in wrong if t is not None)})
    for method in audit.protocol.methods:
        work.run(method, targets)
    work.measure_nulls()
    work.run_twins()
    work.measure_experts(single)
    arrays = work.display() | _region_pictures(regions, audit)
    write_arrays(audit.folder / "cases" / f"{case.case}.npz", arrays)
    row.seconds = time.perf_counter() - begin
    result = CaseResult(
        key=case_key(case, audit, hashes),
        row=row,
        patient=case.patient,
        measurements=work.measurements,
        detections=work.detections,
        curves=work.curves,
        concepts=work.concepts,
        errors=work.errors,
        small_maps=work.small_maps,
        inputs=hashes,
    )
    write_text(audit.folder / "cases" / f"{case.case}.json", result.model_dump_json(indent=1) + "\n")
    return result


def _read(case: Case, modality: str) -> Volume | Photograph:
    return read_volume(case.image) if modality == "mri" else read_photograph(case.image)


def _region_pictures(regions: Regions | None, audit: Audit) -> dict[str, npt.NDArray[np.int16]]:
    """Labels that were refused, and which labels are expected or controls, for the report to draw."""
    if regions is None:
        return {}
    if not regions.registered:
        return {} if regions.refused is None else {"regions_refused": regions.refused.astype(np.int16)}
    from atlases import expected_regions

    try:
        found = expected_regions(audit.protocol.disease, regions.table)
    except AnatomyError:  # quadrants of a photograph, a segmentation of other parts
        return {}
    roles = {"expected": found.labels(), "control": found.negative_labels}
    return {f"regions_{role}": np.asarray(labels, np.int16) for role, labels in roles.items()}

"""The audit directory: written by the run, and the only thing the reports read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from pydantic import Field, ValidationError

from pipeline.errors import RecordError
from pipeline.files import sha256_of, whole_file, write_text
from pipeline.record.cases import CaseRow as CaseRow
from pipeline.record.cases import ErrorRow as ErrorRow
from pipeline.record.concepts import ConceptFindings, ConceptRow
from pipeline.record.experts import CurveRow, DetectionRow, ExpertFindings
from pipeline.record.interventions import Interventions
from pipeline.record.parts import Figure as Figure
from pipeline.record.parts import Part as _Part
from pipeline.record.trust import Trust

SCHEMA: Literal["relevance-audit/1"] = "relevance-audit/1"
Answer = Literal["sound", "flagged", "inconclusive"]
Role = Literal["expected", "control", ""]


class Verdict(_Part):
    """The answer of the audit.

    Attributes
    ----------
    answer : {"sound", "flagged", "inconclusive"}
    factors : list of str
        What was found (flagged) or what is missing (inconclusive).
    sentence : str
        The answer in plain words.
    """

    answer: Answer
    factors: list[str] = Field(default_factory=list)
    sentence: str = ""


class CriterionResult(_Part):
    """One criterion of the protocol and what was found.

    Attributes
    ----------
    name, method : str
    bound : str
        The bound in words, e.g. `at least 0.75`.
    value, low, high : float or None
    null : float or None
        What chance or the null reaches.
    n : int
    answer : {"met", "not met", "undecided"}
    reason : str
        Why this bound.
    detail : str
        Which factor or cue the number is of, where there are several.
    idle : str
        Why its bound cannot tell a sound model from another, so that it counts for nothing in the verdict.
    """

    name: str
    title: str = ""
    method: str | None = None
    bound: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    null: float | None = None
    n: int = 0
    answer: Literal["met", "not met", "undecided"]
    reason: str = ""
    detail: str = ""
    idle: str = ""


class ModelSummary(_Part):
    """What is printed of the audited model."""

    name: str
    sha256: str
    architecture: str = ""
    classes: list[str]
    trained_on: str = ""
    performance: list[dict[str, Any]] = Field(default_factory=list)
    credits: list[str] = Field(default_factory=list)
    limits: str = ""
    notes: list[str] = Field(default_factory=list)


class CohortSummary(_Part):
    """What is printed of the cohort: counts, no identity."""

    source: str
    cases: int
    patients: int
    patients_given: bool
    audited: int
    labels: dict[str, int] = Field(default_factory=dict)
    marks: dict[str, int] = Field(default_factory=dict)


class MethodRow(_Part):
    """One row of the method table.

    Attributes
    ----------
    seconds : float
        Median wall time of one map of one case.
    forward_passes : str
        Cost as its card states it.
    note : str
        Why the method was not run, where it was not.
    """

    name: str
    title: str
    family: str
    signed: bool
    class_discriminative: bool
    forward_passes: str
    seconds: float | None = None
    source: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    cases: int = 0
    note: str = ""


class Agreement(_Part):
    """One method against the experts' marks of one lesion type, with what it has to beat.

    Attributes
    ----------
    lesion : str
        `expected_regions` where atlas regions stand for marks.
    metric : str
        `mass_accuracy`, `rank_accuracy`, `pointing_game`, `auprc`, `log2_mass_lift` …
    figure : Figure
        The method itself, over cases whose logit for the audited class is not negative.
    nulls : dict of str to Figure
        The same number of each null map, of `twins` (mean over those with random weights) and of `shuffled`.
    differences : dict of str to Figure
        Paired by case: method minus null or twin.
    p_values : dict of str to float
        Of the paired test, corrected within the family (all of one metric; Benjamini–Hochberg).
    conclusions : dict of str to str
        For the main statistic: the difference in a plain sentence.
    ceiling : Figure or None
        What experts reach against each other, where there are several.
    against : Figure or None
        The method over the cases whose logit is negative.
    floored : int
        Cases whose value is set by the floor δ and not by the map.
    """

    method: str
    lesion: str
    metric: str
    figure: Figure
    nulls: dict[str, Figure] = Field(default_factory=dict)
    differences: dict[str, Figure] = Field(default_factory=dict)
    p_values: dict[str, float] = Field(default_factory=dict)
    conclusions: dict[str, str] = Field(default_factory=dict)
    ceiling: Figure | None = None
    against: Figure | None = None
    floored: int = 0


class RegionRow(_Part):
    """Relevance of one atlas region under one method, over the cohort.

    Attributes
    ----------
    density : Figure
        Relevance for the target per voxel of the region, over that of the whole brain (1 = no preference).
    rank : Figure
        1 is the region with the highest density.
    role : {"expected", "control", ""}
    """

    method: str
    region: str
    density: Figure
    rank: Figure
    role: Role = ""


class Measurement(_Part):
    """One number of one case: a row of measurements.parquet.

    Attributes
    ----------
    method : str
        Attribution method; `null:<name>` for a null map, `twin-<n>:<method>` and `shuffled:<method>` for the
        same method on a twin of the model, measured the same way; `experts:agreement` for experts among
        themselves.
    target : int
        Class whose map was measured.
    lesion, region : str
        What it was measured against; empty where that does not apply.
    metric : str
    value : float or None
        None where it could not be measured; then `status` says why.
    """

    case: str
    patient: str
    method: str
    target: int
    lesion: str = ""
    region: str = ""
    metric: str
    value: float | None = None
    status: str = ""


class CaseResult(_Part):
    """All that was found on one case; kept as `cases/<case>.json`, so that a run can go on where it ended.

    Attributes
    ----------
    key : str
        Hash of everything the result depends on.
    inputs : dict of str to str
        File name → SHA-256.
    detections, curves, concepts : list
        What is needed to find lesions, to choose thresholds on other patients, and to show concepts.
    small_maps : dict of str to str
        Method → its map for the audited class on a small grid (`pipeline.record.small_maps`): what speaks for
        the model's answer.
    """

    key: str
    row: CaseRow
    patient: str
    measurements: list[Measurement] = Field(default_factory=list)
    detections: list[DetectionRow] = Field(default_factory=list)
    curves: list[CurveRow] = Field(default_factory=list)
    concepts: list[ConceptRow] = Field(default_factory=list)
    errors: list[ErrorRow] = Field(default_factory=list)
    small_maps: dict[str, str] = Field(default_factory=dict)
    inputs: dict[str, str] = Field(default_factory=dict)


class Provenance(_Part):
    """What has to be known to do it again."""

    versions: dict[str, str]
    seed: int
    threads: int
    started: str
    finished: str
    wall_seconds: float
    peak_memory_mb: float
    inputs: dict[str, str] = Field(default_factory=dict)
    platform: str = ""


class AuditRecord(_Part):
    """All that an audit found: `audit.json`."""

    schema_: Literal["relevance-audit/1"] = Field(default=SCHEMA, alias="schema")
    title: str
    modality: Literal["mri", "fundus"]
    disease: str
    target: int
    verdict: Verdict
    criteria: list[CriterionResult]
    model: ModelSummary
    cohort: CohortSummary
    skill: dict[str, Figure] = Field(default_factory=dict)
    methods: list[MethodRow]
    agreement: list[Agreement] = Field(default_factory=list)
    experts: ExpertFindings = Field(default_factory=ExpertFindings)
    regions: list[RegionRow] = Field(default_factory=list)
    shares: dict[str, dict[str, Figure]] = Field(default_factory=dict)
    cases: list[CaseRow]
    errors: list[ErrorRow] = Field(default_factory=list)
    atlas: dict[str, str] = Field(default_factory=dict)
    interventions: Interventions | None = None
    concepts: ConceptFindings | None = None
    trust: Trust | None = None
    provenance: Provenance
    limits: list[str] = Field(default_factory=list)


def write_record(folder: Path, record: AuditRecord) -> None:
    """Write `audit.json`, whole or not at all."""
    write_text(folder / "audit.json", record.model_dump_json(by_alias=True, indent=1) + "\n")


def read_record(folder: Path | str) -> AuditRecord:
    """Read `audit.json` of an audit directory.

    Raises
    ------
    pipeline.errors.RecordError
        If it is missing or of another schema.
    """
    path = Path(folder) / "audit.json"
    if not path.is_file():
        raise RecordError(f"{folder}: no audit.json in it", "name the directory of a finished audit")
    try:
        return AuditRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: not an audit of schema {SCHEMA}", "run the audit again") from error


def write_arrays(path: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> None:
    """Write named arrays as a compressed `.npz`, whole or not at all."""
    with whole_file(path) as part, part.open("wb") as stream:
        np.savez_compressed(stream, **cast("dict[str, Any]", arrays))


def read_arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read what `write_arrays` wrote; nothing is ever unpickled."""
    with np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}


def write_manifest(folder: Path, inputs: dict[str, str], weights: str, versions: dict[str, str]) -> None:
    """Write `manifest.json`: the hash of every file of the audit, of every input, and of the weights."""
    files = {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json" and not _is_scratch(path.relative_to(folder))
    }
    manifest = {"schema": SCHEMA, "files": files, "inputs": inputs, "weights": weights, "versions": versions}
    write_text(folder / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def verify(folder: Path) -> list[str]:
    """Compare an audit directory with its manifest.

    Returns
    -------
    list of str
        One line for each file that was changed, is missing, or was added since the run; empty if none.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise RecordError(f"{folder}: no manifest.json in it", "name the directory of a finished audit")
    try:
        files: dict[str, str] = dict(json.loads(path.read_text(encoding="utf-8"))["files"].items())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path}: not a manifest", "run the audit again") from error
    found = {
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and p != path and not _is_scratch(p.relative_to(folder))
    }
    lines = [f"{name}: missing" for name in sorted(set(files) - found)]
    lines += [f"{name}: added since the run" for name in sorted(found - set(files))]
    lines += [f"{n}: changed" for n in sorted(found & set(files)) if sha256_of(folder / n) != files[n]]
    return lines + sorted(f"{p.relative_to(folder)}: is a link" for p in folder.rglob("*") if p.is_symlink())


def _is_scratch(relative: Path) -> bool:
    """Whether a path is Prefect's, the lock's, or what a killed run left half written."""
    kept = (".prefect", ".lock", ".registrations", ".report-")
    return relative.parts[0].startswith(kept) or relative.name.startswith(".part-")

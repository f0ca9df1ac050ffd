"""Which cases are audited: their images, expert marks, label and covariates."""

from __future__ import annotations

import csv
import io
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.errors import AuditError, CohortError
from pipeline.files import is_there
from pipeline.images import read_mask, read_photograph, read_volume
from pipeline.images.photographs import is_photograph
from pipeline.protocol import NAME_PATTERN

Modality = Literal["mri", "fundus"]

COVARIATES = ("age", "sex", "site", "eye")
_KNOWN = {"case", "patient", "image", "label", "age", "sex", "site", "eye", "regions", "regions_table"}
_MARKS = "marks_"
# folder of IDRiD's segmentation ground truth → (lesion type here, file suffix)
IDRID_LESIONS = {
    "1. Microaneurysms": ("microaneurysms", "MA"),
    "2. Haemorrhages": ("haemorrhages", "HE"),
    "3. Hard Exudates": ("hard_exudates", "EX"),
    "4. Soft Exudates": ("soft_exudates", "SE"),
}


@dataclass(frozen=True)
class Case:
    """One image with what is known about it.

    Attributes
    ----------
    case, patient : str
        Letters, digits, `_` and `-`, at most 64: they become file names.
    image : Path
    label : str or None
        As written in the table: class index or name.
    marks : dict of str to tuple of Path
        Lesion type → one mask file per expert.
    covariates : dict of str to str
        age, sex, site, eye where given.
    regions : Path or None
        The patient's own segmentation (MRI), taken instead of an atlas.
    regions_table : Path or None
        Its label table; by default the one beside it.
    """

    case: str
    patient: str
    image: Path
    label: str | None = None
    marks: dict[str, tuple[Path, ...]] = field(default_factory=dict)
    covariates: dict[str, str] = field(default_factory=dict)
    regions: Path | None = None
    regions_table: Path | None = None

    def class_index(self, classes: tuple[str, ...]) -> int | None:
        """Index of the label among `classes`.

        Raises
        ------
        pipeline.errors.CohortError
            If the label is none of the classes.
        """
        if self.label is None:
            return None
        if self.label in classes:
            return classes.index(self.label)
        number = re.fullmatch(r"(\d{1,9})(\.0*)?", self.label)
        if number and int(number[1]) < len(classes):
            return int(number[1])
        known = ", ".join(f"{i} or {name}" for i, name in enumerate(classes))
        raise CohortError(
            f"case {self.case}: label {self.label!r} is not a class of the model", f"use {known}"
        )


@dataclass(frozen=True)
class Cohort:
    """All cases of one audit.

    Attributes
    ----------
    cases : tuple of Case
    source : str
        What was read, for the report.
    patients_given : bool
        False: every image counts as its own patient, and the report says so.
    """

    cases: tuple[Case, ...]
    source: str
    patients_given: bool


@dataclass(frozen=True)
class Problem:
    """Something wrong with one case, as one line.

    Attributes
    ----------
    case : str
    file : str
        Name of the file (empty where the table itself is wrong).
    reason : str
        What is wrong and what to do.
    """

    case: str
    file: str
    reason: str

    def __str__(self) -> str:
        return f"case {self.case}: {self.reason}"


def read_cohort(source: str | dict[Literal["idrid"], str]) -> Cohort:
    """Read a cohort table, or the folder layout of IDRiD's segmentation task.

    Parameters
    ----------
    source : str or {"idrid": str}
        CSV/TSV file, or the folder that holds `1. Original Images` and
        `2. All Segmentation Groundtruths`.

    Raises
    ------
    pipeline.errors.CohortError
        If there is no table, a column or a name is wrong, or a case stands there twice: all mistakes in
        one message.
    """
    if isinstance(source, dict):
        return _read_idrid(Path(source["idrid"]))
    return _read_table(Path(source))


def check_case(case: Case, modality: Modality, classes: tuple[str, ...]) -> list[Problem]:
    """Open everything a case names and return what is wrong with it (nothing is raised)."""
    problems: list[Problem] = []
    shape: tuple[int, ...] | None = None
    affine = None
    try:
        case.class_index(classes)
    except CohortError as error:
        problems.append(Problem(case.case, "", str(error).removeprefix(f"case {case.case}: ")))
    try:
        if modality == "mri":
            volume = read_volume(case.image)
            shape, affine = volume.shape, volume.affine
        else:
            shape = read_photograph(case.image).shape
    except AuditError as error:
        problems.append(Problem(case.case, case.image.name, str(error)))
    problems += _segmentation_problems(case, modality)
    for files in case.marks.values():
        for file in files:
            try:
                if shape is not None:
                    read_mask(file, shape, affine)
                elif not is_there(file):
                    raise CohortError(
                        f"{file.name}: file not found", "check the path; it is relative to the table"
                    )
            except AuditError as error:
                problems.append(Problem(case.case, file.name, str(error)))
    return problems


def _segmentation_problems(case: Case, modality: Modality) -> list[Problem]:
    """Open the patient's own segmentation, where the case has one."""
    if case.regions is None:
        return []
    try:
        if modality != "mri":
            raise CohortError("regions are segmentations of MRI", "leave the column out for photographs")
        from atlases import read_segmentation

        read_segmentation(case.regions, case.regions_table)
    except AuditError as error:
        return [Problem(case.case, case.regions.name, str(error))]
    return []


def _read_table(path: Path) -> Cohort:
    if not path.is_file():
        raise CohortError(f"{path}: cohort table not found", "name a CSV or TSV file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise CohortError(f"{path.name}: is not UTF-8 text", "save the table as UTF-8 CSV") from error
    columns, rows = _rows(path, text)
    mistakes = _column_mistakes(columns) if columns else []
    if not rows:
        mistakes.append("no case in it")
    if mistakes:
        raise CohortError(
            f"{path.name}: {'; '.join(mistakes)}", "columns are described in docs/file-formats.md"
        )
    cases, given = [], True
    for line, row in rows:
        values = dict(zip(columns, (cell.strip() for cell in row), strict=False))
        mistakes += [f"line {line}: {m}" for m in _row_mistakes(values, extra=len(row) > len(columns))]
        cases.append(_case_of(values, path.parent))
        given = given and bool(values.get("patient"))
    mistakes += _twice([case.case for case in cases])
    if mistakes:
        raise CohortError(f"{path.name}: {'; '.join(mistakes)}", "mend the table")
    return Cohort(tuple(cases), path.name, patients_given=given)


def _rows(path: Path, text: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Names of the columns, and each row that is not empty with the line where it ends."""
    tabs = path.suffix.lower() == ".tsv"
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if tabs else ",")
    try:
        lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise CohortError(
            f"{path.name}: line {reader.line_num}: cannot be read ({error})", "save the table as CSV again"
        ) from error
    if not lines:
        return [], []
    columns = [name.strip() for name in lines[0][1]]
    if len(columns) == 1 and len(re.split(r"[;\t,]", columns[0])) > 1:
        raise CohortError(
            f"{path.name}: its fields are not separated by {'tabs' if tabs else 'commas'}",
            "save it as .csv with commas, or as .tsv with tabs",
        )
    return columns, lines[1:]


def _column_mistakes(columns: list[str]) -> list[str]:
    mistakes = [f"column {name!r} is missing" for name in ("case", "image") if name not in columns]
    mistakes += [
        f"column {name!r} stands there twice" for name in sorted({c for c in columns if columns.count(c) > 1})
    ]
    unknown = sorted({c for c in columns if c not in _KNOWN and not c.startswith(_MARKS)})
    if unknown:
        mistakes.append(f"unknown column{'s' * (len(unknown) > 1)} {', '.join(map(repr, unknown))}")
    mistakes += [
        f"column {name!r}: the lesion type is not 1–64 letters, digits, _ or -"
        for name in columns
        if name.startswith(_MARKS) and not re.fullmatch(NAME_PATTERN, name.removeprefix(_MARKS))
    ]
    return mistakes


def _row_mistakes(values: dict[str, str], *, extra: bool) -> list[str]:
    mistakes = ["more fields than columns"] if extra else []
    for key in ("case", "patient"):
        given = values.get(key, "")
        if (given or key == "case") and not re.fullmatch(NAME_PATTERN, given):
            mistakes.append(f"{key} {given!r} is not 1–64 letters, digits, _ or -")
    if not values.get("image"):
        mistakes.append("image is empty")
    if values.get("regions_table") and not values.get("regions"):
        mistakes.append("a regions_table without regions")
    if values.get("age"):
        try:
            age = float(values["age"])
        except ValueError:
            age = math.nan
        if not 0 <= age <= 130:
            mistakes.append(f"age {values['age']!r} is not a number of years between 0 and 130")
    return mistakes


def _case_of(values: dict[str, str], folder: Path) -> Case:
    marks = {
        key.removeprefix(_MARKS): tuple(folder / name.strip() for name in value.split(";") if name.strip())
        for key, value in values.items()
        if key.startswith(_MARKS) and value
    }
    return Case(
        case=values.get("case", ""),
        patient=values.get("patient") or values.get("case", ""),
        image=folder / values.get("image", ""),
        label=values.get("label") or None,
        marks=marks,
        covariates={key: values[key] for key in COVARIATES if values.get(key)},
        regions=folder / values["regions"] if values.get("regions") else None,
        regions_table=folder / values["regions_table"] if values.get("regions_table") else None,
    )


def _twice(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    for name in names:
        seen[name.lower()] = seen.get(name.lower(), 0) + 1
    return [f"case {name!r} stands there {n} times" for name, n in seen.items() if n > 1]


def _read_idrid(folder: Path) -> Cohort:
    images = folder / "1. Original Images"
    truths = folder / "2. All Segmentation Groundtruths"
    if not images.is_dir() or not truths.is_dir():
        raise CohortError(
            f"{folder}: not IDRiD's segmentation folder",
            "it holds '1. Original Images' and '2. All Segmentation Groundtruths'",
        )
    cases = []
    for image in sorted(p for p in images.rglob("*") if is_photograph(p)):
        marks: dict[str, tuple[Path, ...]] = {}
        for lesion_folder, (lesion, suffix) in IDRID_LESIONS.items():
            mask = truths / image.parent.name / lesion_folder / f"{image.stem}_{suffix}.tif"
            if mask.is_file():
                marks[lesion] = (mask,)
        cases.append(Case(image.stem, image.stem, image, marks=marks))
    if not cases:
        raise CohortError(f"{images}: no photograph in it", "name the folder that holds the JPEG files")
    mistakes = _twice([case.case for case in cases])
    if mistakes:
        raise CohortError(f"{folder.name}: {'; '.join(mistakes)}", "keep each photograph once")
    return Cohort(tuple(cases), f"IDRiD segmentation folder ({len(cases)} photographs)", patients_given=False)

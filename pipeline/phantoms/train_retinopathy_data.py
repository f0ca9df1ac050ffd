"""Which photographs the retinopathy model learns from, and in which fold each one is held out."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import CohortError

BUNDLE = Path(__file__).parent / "bundles" / "retinopathy"
FOLDS_FILE = BUNDLE / "folds.csv"
FOLDS = 5
REFERABLE = 2
"""Lowest grade of diabetic retinopathy that is referred."""

_GRADING = Path("retina", "idrid", "B. Disease Grading")
_LABELS = _GRADING / "2. Groundtruths" / "a. IDRiD_Disease Grading_Training Labels.csv"
_PHOTOGRAPHS = _GRADING / "1. Original Images" / "a. Training Set"
_SAME = Path("retina", "idrid", "same_photograph.csv")

CONTRADICTORY = ("IDRiD_028", "IDRiD_327", "IDRiD_118")
"""028 and 327 are one photograph with two grades; 118 is also test photograph 064 with another grade."""


@dataclass(frozen=True)
class Graded:
    """One graded photograph: `name`, file `path` and DR `grade` 0–4."""

    name: str
    path: Path
    grade: int

    @property
    def referable(self) -> bool:
        """Grade 2 or above."""
        return self.grade >= REFERABLE


def graded_photographs(data: Path) -> list[Graded]:
    """IDRiD's graded training photographs without those that must not be learnt from.

    Left out are the photographs that also carry expert lesion masks (a later comparison of relevance with
    those masks needs unseen photographs) and those graded in contradiction (`CONTRADICTORY`).

    Parameters
    ----------
    data : Path
        Folder that holds `retina/idrid`.

    Raises
    ------
    pipeline.errors.CohortError
        If the folder or a listed photograph is missing.
    """
    for needed in (_LABELS, _SAME):
        if not (data / needed).is_file():
            raise CohortError(
                f"{data / needed} is missing", "--data names the folder that holds retina/idrid"
            )
    with (data / _SAME).open(encoding="utf-8", newline="") as file:
        marked = {row["grading image"] for row in csv.DictReader(file)}
    graded = []
    with (data / _LABELS).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name = row["Image name"].strip()
            if not name or name in marked or name in CONTRADICTORY:
                continue
            path = data / _PHOTOGRAPHS / f"{name}.jpg"
            if not path.is_file():
                raise CohortError(f"{path} is missing", "complete the data set")
            graded.append(Graded(name, path, int(row["Retinopathy grade"])))
    return sorted(graded, key=lambda one: one.name)


def write_folds(graded: list[Graded], path: Path = FOLDS_FILE, seed: int = 0) -> None:
    """Deal the photographs of each grade to the folds in turn, in a seeded order."""
    generator = np.random.default_rng(seed)
    fold: dict[str, int] = {}
    dealt = 0
    for grade in sorted({one.grade for one in graded}):
        names = [one.name for one in graded if one.grade == grade]
        for name in generator.permutation(names):
            fold[str(name)] = dealt % FOLDS
            dealt += 1
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", "fold"])
        writer.writerows(sorted(fold.items()))


def read_folds(path: Path = FOLDS_FILE) -> dict[str, int]:
    """Image name → fold in which it is held out."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["image"]: int(row["fold"]) for row in csv.DictReader(file)}

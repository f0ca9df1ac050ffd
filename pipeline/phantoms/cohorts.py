"""Cohorts of phantoms on disk, as a hospital would hand them over: images, marks and a table."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.files import whole_file
from pipeline.images import write_volume

COLUMNS = ("case", "patient", "image", "label", "eye", "age", "sex", "site")
RETINA_GRADES = (0, 2, 1, 3, 0, 4)


def write_brain_cohort(
    folder: Path, cases: int, seed: int, advance: Callable[[], None] = lambda: None
) -> Path:
    """Write brains, every second one with the atrophy of Alzheimer's disease, and the table.

    Parameters
    ----------
    folder : Path
        Images go to `folder/images`, masks of what atrophy changed to `folder/marks`.
    cases : int
    seed : int
        Of the first brain; the others follow.
    advance : callable, optional
        Called after each brain.

    Returns
    -------
    Path
        The table. What is already there is not drawn again.
    """
    from pipeline.phantoms.brain import brain_phantom
    from pipeline.phantoms.train_alzheimer import draw_severity

    rows = []
    for number in range(seed, seed + cases):
        name = f"brain-{number}"
        label, severity = draw_severity(number)
        row = {"case": name, "patient": name, "image": f"images/{name}.nii.gz", "label": str(label)}
        phantom = brain_phantom(number, severity)
        write_volume(folder / row["image"], phantom.volume.data, phantom.volume.affine)
        row |= {"age": f"{phantom.age:.0f}", "sex": phantom.sex, "site": phantom.site}
        if label:
            row["marks_atrophy"] = f"marks/{name}.nii.gz"
            mask = phantom.masks["atrophy"].astype(np.uint8)
            write_volume(folder / row["marks_atrophy"], mask, phantom.volume.affine)
        rows.append(row)
        advance()
    return _write_table(folder / "cohort.csv", rows, ("atrophy",))


def write_retina_cohort(
    folder: Path, cases: int, seed: int, advance: Callable[[], None] = lambda: None, *, size: int = 1024
) -> Path:
    """Write fundus photographs of grades 0–4, half of them referable, with masks of their lesions.

    Parameters
    ----------
    folder, cases, seed, advance
        As in `write_brain_cohort`.
    size : int
        Height of the photographs in pixels.

    Returns
    -------
    Path
        The table.
    """
    from pipeline.phantoms.retina import retina_phantom

    lesions = ("microaneurysms", "haemorrhages", "hard_exudates", "soft_exudates")
    rows = []
    for number in range(seed, seed + cases):
        name = f"retina-{number}"
        grade = RETINA_GRADES[number % len(RETINA_GRADES)]
        phantom = retina_phantom(number, grade, size=size)
        row = {"case": name, "patient": name, "image": f"images/{name}.jpg", "label": str(int(grade >= 2))}
        row |= {"eye": phantom.laterality, "site": phantom.site}
        _write_picture(folder / row["image"], np.round(phantom.photograph.data * 255).astype(np.uint8))
        for lesion in lesions:
            if grade and phantom.masks[lesion].any():
                row[f"marks_{lesion}"] = f"marks/{name}_{lesion}.png"
                _write_picture(folder / row[f"marks_{lesion}"], phantom.masks[lesion].astype(np.uint8) * 255)
        rows.append(row)
        advance()
    return _write_table(folder / "cohort.csv", rows, lesions)


def _write_picture(path: Path, pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    from PIL import Image

    with whole_file(path) as part:
        Image.fromarray(pixels).save(part, quality=95)


def _write_table(path: Path, rows: list[dict[str, str]], lesions: tuple[str, ...]) -> Path:
    columns = [*COLUMNS, *(f"marks_{lesion}" for lesion in lesions)]
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path

"""Where the marks of the other patients lie: the null map that knows the experts and neither image nor model.

Marks of all cases are brought onto one grid: photographs by the circle of their field of view, left eyes
mirrored; brains in the template's space. A case is compared with the sum over the cases of *other* patients,
smoothed a little, since few patients leave holes that mean nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.cohort import Case
from pipeline.errors import AuditError, ImageError
from pipeline.files import sha256_of
from pipeline.images import Photograph, Volume, read_photograph, read_volume
from pipeline.models.prepared import Prepared
from pipeline.record.schema import read_arrays, write_arrays
from pipeline.stages.marks import masks_of_experts

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.stages.audit import Audit

Transform = npt.NDArray[np.float64]
Counts = npt.NDArray[np.float32]

AVERAGE = "average"
SIDE, MILLIMETRES = 128, 4.0
"""Cells across the field of view, and edge of a cell in the brain."""
BRAIN = (46, 55, 46)
"""Cells of the template's space, from −92, −128 and −74 mm on: all of its brain."""
NO_OTHER = "no other patient has such marks"
FILE = "average_marks.npz"


@dataclass(frozen=True)
class AverageMarks:
    """Marks of a cohort on one grid.

    Attributes
    ----------
    counts : dict of str to dict of str to ndarray of float32
        Lesion type → case → share of its marked pixels in each cell, see `pipeline.comparison.gathered`.
    native_from_common : dict of str to ndarray of float64, shape (D + 1, D + 1)
        Case → cell of the common grid (its centre) → native index.
    patients : dict of str to str
        Case → patient.
    left_out : dict of str to str
        Case → why its marks cannot be brought onto the grid.
    """

    counts: dict[str, dict[str, Counts]]
    native_from_common: dict[str, Transform]
    patients: dict[str, str]
    left_out: dict[str, str]

    def of_others(self, case: str, lesion: str, prepared: Prepared) -> Counts | str:
        """Mean over the cases of other patients, on a model's grid.

        Parameters
        ----------
        case : str
        lesion : str
        prepared : Prepared
            Of this case.

        Returns
        -------
        ndarray of float32, shape of the model's grid, or str
            0 outside the field; a sentence where there is no such map.
        """
        if case in self.left_out:
            return self.left_out[case]
        from pipeline.comparison import mean_mask_of_others, on_model_grid_of

        if case not in self.native_from_common:
            return NO_OTHER
        mean = mean_mask_of_others(self.counts.get(lesion, {}), self.patients, self.patients[case])
        if mean is None:
            return NO_OTHER
        step = np.linalg.inv(self.native_from_common[case]) @ prepared.native_from_model
        made: Counts = on_model_grid_of(mean, step, prepared.field)
        return made


def marks_key(cases: Sequence[Case], *, images: bool = False) -> str:
    """Hash of every mark of a cohort and of whose it is.

    Parameters
    ----------
    cases : sequence of Case
    images : bool
        Also of the images, which say where the field lies. Without them a changed image does not have all
        other cases measured again: their marks, and so what they are compared with, are still the same.
    """
    parts = []
    for case in (c for c in cases if c.marks):
        paths = [path for paths in case.marks.values() for path in paths] + [case.image] * images
        try:
            hashes = [sha256_of(path) for path in paths]
        except OSError:
            continue  # it is listed where the case itself is audited
        lesions = {lesion: len(paths) for lesion, paths in case.marks.items()}
        parts.append([case.case, case.patient, case.covariates.get("eye", ""), lesions, hashes])
    text = json.dumps([SIDE, MILLIMETRES, sorted(parts, key=str)])
    return hashlib.sha256(text.encode()).hexdigest()


def average_marks_of(audit: Audit) -> AverageMarks:
    """Bring the marks of a cohort onto one grid, or take up what an earlier run stored.

    Parameters
    ----------
    audit : Audit
        Its folder gets `average_marks.npz`.

    Returns
    -------
    AverageMarks
        Cases whose files cannot be used are left out with the reason.
    """
    marks = marks_key(audit.calibration, images=True)
    key = hashlib.sha256(f"{marks}/{audit.settings_key}".encode()).hexdigest()
    path = audit.folder / FILE
    stored = _stored(path, key)
    if stored is not None:
        return stored
    from pipeline.comparison import consensus, gathered

    made = AverageMarks({}, {}, {}, {})
    for case in (c for c in audit.calibration if c.marks):
        try:
            image = _read(case, audit)
            masks = {
                lesion: consensus(list(masks_of_experts(paths, image).values()))
                for lesion, paths in case.marks.items()
            }
            place = _native_from_common(case, image, audit)
        except AuditError as error:
            made.left_out[case.case] = str(error)
            continue
        transform, shape = place
        made.native_from_common[case.case], made.patients[case.case] = transform, case.patient
        for lesion, mask in masks.items():
            if mask.any():
                made.counts.setdefault(lesion, {})[case.case] = gathered(mask, transform, shape)
    _store(path, key, made)
    return made


def _native_from_common(
    case: Case, image: Photograph | Volume, audit: Audit
) -> tuple[Transform, tuple[int, ...]]:
    if isinstance(image, Photograph):
        return _of_photograph(case, image), (SIDE, SIDE)
    return _of_volume(image, audit)


def _of_photograph(case: Case, photograph: Photograph) -> Transform:
    """Square of the field of view; left eyes mirrored, by the table or else by the landmarks."""
    from pipeline.anatomy.retina import field_of_view
    from pipeline.anatomy.retina_landmarks import find_landmarks
    from pipeline.anatomy.retina_regions import trusted
    from pipeline.models.prepare_fundus import square_transform

    view = field_of_view(photograph)
    eye = case.covariates.get("eye", "").lower()
    left = eye in ("left", "l", "os")
    if not eye:
        found = find_landmarks(photograph, view)
        left = trusted(found) and found.laterality == "left"
    transform = square_transform(view, (SIDE, SIDE))
    if left:
        transform = transform @ np.array([[1.0, 0, 0], [0, -1.0, SIDE - 1], [0, 0, 1.0]])
    return transform


def _of_volume(volume: Volume, audit: Audit) -> tuple[Transform, tuple[int, ...]]:
    """Grid of the template's space, through the affine part of a registration where one is needed."""
    template_from_common = np.diag([MILLIMETRES, MILLIMETRES, MILLIMETRES, 1.0])
    template_from_common[:3, 3] = np.array([-92.0, -128.0, -74.0]) + MILLIMETRES / 2
    from_image = _template_from_image(volume, audit)
    native_from_template = np.linalg.inv(from_image @ volume.affine).astype(np.float64)
    return native_from_template @ template_from_common, BRAIN


def _template_from_image(volume: Volume, audit: Audit) -> Transform:
    """World of an image → world of the template: the identity where the image lies there already."""
    from pipeline.anatomy import brain
    from pipeline.anatomy.brain_mask import brain_mask
    from pipeline.anatomy.brain_registration import register
    from pipeline.anatomy.registration_cache import cached

    card = audit.model.card
    if card is not None and card.preprocessing.kind == "mri_grid":
        return np.eye(4)  # such a model takes images of template space only
    dice = brain.template_dice(volume, brain_mask(volume))
    if dice >= brain.MIN_DICE and brain.in_place_correlation(volume) >= brain.MIN_IN_PLACE:
        return np.eye(4)
    if audit.atlas is None:
        raise ImageError(
            "its brain does not lie in the template's space", "name an atlas, so that it is registered"
        )
    cache = audit.folder / ".registrations"
    same = Volume(np.asarray(volume.data, np.float32), volume.affine, volume.name)
    regions = brain.regions_of(same, audit.atlas, cache=cache)
    if not regions.registered:
        raise ImageError(f"not registered: {regions.reason}", "")
    return np.asarray(cached(same, lambda: register(same), cache).template_from_image, np.float64)


def _read(case: Case, audit: Audit) -> Photograph | Volume:
    return read_volume(case.image) if audit.protocol.modality == "mri" else read_photograph(case.image)


def _stored(path: Path, key: str) -> AverageMarks | None:
    try:
        arrays = read_arrays(path)
        about: dict[str, Any] = json.loads(str(arrays.pop("about")))
    except (OSError, ValueError, KeyError, EOFError):
        return None
    if about.get("key") != key:
        return None
    counts: dict[str, dict[str, Counts]] = {}
    transforms: dict[str, Transform] = {}
    for name, array in arrays.items():
        case, _, lesion = name.partition("/")
        if lesion:
            counts.setdefault(lesion, {})[case] = array
        else:
            transforms[case] = array
    return AverageMarks(counts, transforms, about["patients"], about["left_out"])


def _store(path: Path, key: str, made: AverageMarks) -> None:
    about = {"key": key, "patients": made.patients, "left_out": made.left_out}
    arrays: Mapping[str, npt.NDArray[Any]] = {
        "about": np.array(json.dumps(about)),
        **made.native_from_common,
        **{f"{case}/{lesion}": c for lesion, cases in made.counts.items() for case, c in cases.items()},
    }
    write_arrays(path, dict(arrays))

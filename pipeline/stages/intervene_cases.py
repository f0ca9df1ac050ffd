"""The cases that are intervened upon, on the model's grid, and the score that is measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.cohort import Case, Cohort
from pipeline.errors import AuditError, ModelError
from pipeline.images import Photograph, Volume, read_patch, read_photograph, read_volume
from pipeline.record.schema import CaseResult
from pipeline.stages.audit import Audit
from pipeline.stages.marks import masks_of_experts
from pipeline.stages.measuring import on_model_grid

if TYPE_CHECKING:
    import torch

    from pipeline.interventions import Composition, Subject
    from pipeline.interventions.cues import Cue
    from pipeline.protocol import CuePatch

Floats = npt.NDArray[np.float32]
MOST_A_CLASS = 32
BATCH = 8
DISC, MACULA = 1, 2  # of `ETDRS_TABLE`
DISC_RIM = 0.33


@dataclass(frozen=True)
class Member:
    """One case, ready to be intervened upon.

    Attributes
    ----------
    subject : pipeline.interventions.Subject
    image : ndarray of float32, shape (C, *spatial)
        As the model takes it.
    field : ndarray of bool, shape spatial
    spacing : ndarray, shape (D,)
    clean : float
        Log odds of the audited class.
    covariates : dict of str to str
    labels : ndarray of int, optional
        Atlas regions, or ETDRS fields of a photograph; None where landmarks are uncertain.
    lesions : ndarray of bool, optional
        What at least half of the experts marked, all types together.
    why_not_swapped : str
        Empty if its factors can be swapped.
    axes : (int, int, int)
        Which axis of the grid goes from left to right, from back to front, from below to above (MRI).
    """

    subject: Subject
    image: Floats
    field: npt.NDArray[np.bool_]
    spacing: npt.NDArray[np.float64]
    clean: float
    covariates: dict[str, str]
    labels: npt.NDArray[np.integer[Any]] | None = None
    lesions: npt.NDArray[np.bool_] | None = None
    why_not_swapped: str = ""
    axes: tuple[int, int, int] = (0, 1, 2)


class Score:
    """Log odds of the audited class against all others: what is measured, in logit units."""

    def __init__(self, audit: Audit) -> None:
        self._module, self._target = audit.model.module, audit.target

    def __call__(self, images: torch.Tensor) -> npt.NDArray[np.float64]:
        """Score images of shape (n, C, *spatial); an image without a finite score is a ModelError."""
        import torch

        from pipeline.attribution import logits

        z = logits(self._module, images).double()
        others = torch.cat([z[:, : self._target], z[:, self._target + 1 :]], 1)
        odds: npt.NDArray[np.float64] = (z[:, self._target] - others.logsumexp(1)).numpy()
        if not np.isfinite(odds).all():
            raise ModelError(
                "the model gives no finite score of an image", "find out where it divides by zero"
            )
        return odds

    def of(self, images: Sequence[Floats]) -> npt.NDArray[np.float64]:
        """Score arrays of shape (C, *spatial), a few at a time; shapes may differ from case to case."""
        import torch

        parts: list[npt.NDArray[np.float64]] = []
        start = 0
        while start < len(images):
            stop = start + 1
            while stop < min(len(images), start + BATCH) and images[stop].shape == images[start].shape:
                stop += 1
            parts.append(self(torch.from_numpy(np.stack(images[start:stop]))))
            start = stop
        return np.concatenate(parts)


def choose_members(
    audit: Audit, cohort: Cohort, results: Sequence[CaseResult], notes: list[str]
) -> list[Member]:
    """Prepare the labelled cases, at most 32 a class, drawn by the protocol's seed.

    Returns
    -------
    list of Member
        Empty, with a note, if a class is missing.
    """
    by_name = {case.case: case for case in cohort.cases}
    labelled = [r for r in results if r.row.label is not None and r.row.case in by_name]
    rng = np.random.default_rng(audit.protocol.seed)
    chosen: list[CaseResult] = []
    for positive in (True, False):
        side = sorted(
            (r for r in labelled if (r.row.label == audit.target) == positive), key=lambda r: r.row.case
        )
        if not side:
            notes.append("nothing was intervened upon: cases of both classes with a label are needed")
            return []
        picked = rng.permutation(len(side))[:MOST_A_CLASS]
        chosen += [side[i] for i in sorted(picked)]
    if len(chosen) < len(labelled):
        notes.append(
            f"{len(chosen)} of {len(labelled)} labelled cases, drawn at random, were intervened upon"
        )
    score = Score(audit)
    return [_member(audit, by_name[r.row.case], r, score) for r in chosen]


def _member(audit: Audit, case: Case, result: CaseResult, score: Score) -> Member:
    from pipeline.comparison import consensus
    from pipeline.interventions import Subject

    mri = audit.protocol.modality == "mri"
    image = read_volume(case.image) if mri else read_photograph(case.image)
    prepared = audit.model.prepare(image)
    pixels = prepared.tensor[0].numpy()
    field = prepared.field
    spacing = np.ones(field.ndim)
    axes = (0, 1, 2)
    labels = lesions = None
    why = ""
    if prepared.affine is not None:
        spacing = np.linalg.norm(prepared.affine[:3, :3], axis=0)
        x, y, z = np.abs(prepared.affine[:3, :3] / spacing).argmax(axis=1)
        axes = (int(x), int(y), int(z))
        labels, why = _labels(audit, pixels, prepared.affine)
        if not why and audit.model.preprocessing.kind != "mri_grid":
            why = "the model takes images as read, so that cases do not share a grid"
    else:
        assert isinstance(image, Photograph)
        lesions = np.zeros(field.shape, bool)
        for paths in case.marks.values():
            lesions |= on_model_grid(consensus(list(masks_of_experts(paths, image).values())), prepared)
        labels = landmarks_of(image, prepared.native_from_model, field.shape)
        if result.row.label == audit.target and not case.marks:
            why = "no expert marks on a case of the audited class"
        if audit.model.preprocessing.kind != "fundus_square":
            why = "the model takes images as read, so that fields of view are not aligned"
    age = case.covariates.get("age")
    subject = Subject(
        case.case,
        case.patient,
        result.row.label == audit.target,
        float(age) if age else None,
        case.covariates.get("sex", ""),
    )
    clean = float(score.of([pixels])[0])
    return Member(subject, pixels, field, spacing, clean, dict(case.covariates), labels, lesions, why, axes)


def _labels(
    audit: Audit, pixels: Floats, affine: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.integer[Any]] | None, str]:
    if audit.atlas is None:
        return None, "no atlas in the protocol"
    from pipeline.anatomy.brain import regions_of

    try:
        image = Volume(pixels[0], affine, "prepared image")
        regions = regions_of(image, audit.atlas, cache=audit.folder / ".registrations")
    except AuditError as error:
        return None, str(error)
    if not regions.registered:
        return None, "the brain is not registered to the atlas"
    return regions.labels, ""


def landmarks_of(
    photograph: Photograph, native_from_model: npt.NDArray[np.float64], shape: tuple[int, ...]
) -> npt.NDArray[np.integer[Any]] | None:
    """ETDRS fields on the model's grid; None where disc or fovea are uncertain."""
    from pipeline.anatomy.retina_regions import ETDRS_TABLE, retina_regions_on

    regions = retina_regions_on(photograph, native_from_model, (shape[0], shape[1]))
    return regions.labels if ETDRS_TABLE[DISC] in regions.table.values() else None


def composition_of(audit: Audit, own: Member, partner: Member) -> Composition:
    """Make the pair's factors."""
    if audit.protocol.modality == "mri":
        from atlases import expected_regions
        from pipeline.interventions.brain_factors import BrainImage, BrainPair, brain_parts

        assert audit.atlas is not None
        assert own.labels is not None
        expected = expected_regions(audit.protocol.disease, audit.atlas.table).labels()
        parts = brain_parts(own.labels, expected, own.field, partner.field, own.spacing)
        images = [BrainImage(m.image[0], m.field) for m in (own, partner)]
        return BrainPair(images[0], images[1], parts, own.spacing)
    from pipeline.interventions.retina_factors import RetinaImage, RetinaPair

    assert own.lesions is not None
    assert partner.lesions is not None
    preprocessing = audit.model.preprocessing
    one, two = (
        RetinaImage(colours_of(audit, m.image), m.field, lesions, disc_and_macula(m.labels))
        for m, lesions in ((own, own.lesions), (partner, partner.lesions))
    )
    return RetinaPair(one, two, (preprocessing.mean, preprocessing.std))


def disc_and_macula(
    labels: npt.NDArray[np.integer[Any]] | None,
) -> npt.NDArray[np.bool_] | None:
    """Take disc, widened by a third of its radius, and macula from the fields of a retina."""
    from scipy.ndimage import distance_transform_edt

    if labels is None:
        return None
    disc = labels == DISC
    reach = DISC_RIM * float(np.sqrt(disc.sum() / np.pi))
    near = distance_transform_edt(~disc) <= reach if disc.any() else disc
    return np.asarray(near | (labels == MACULA))


def own_cue(audit: Audit, patch: CuePatch, shape: tuple[int, ...]) -> Cue:
    """Make a cue of a patch that the protocol names, on the model's grid."""
    from skimage.transform import resize

    from pipeline.interventions.retina_cues import stamp_cue

    colours = read_patch(Path(patch.image))
    width = max(1, round(patch.width * shape[1]))
    colours = colours[: math.ceil(shape[0] * colours.shape[1] / width)]  # no more rows than the grid has
    height = max(1, round(width * colours.shape[0] / colours.shape[1]))
    small = resize(colours, (height, width, 3), order=1, anti_aliasing=True)
    preprocessing = audit.model.preprocessing
    return stamp_cue(
        patch.name,
        np.asarray(small.transpose(2, 0, 1), np.float32),
        patch.place,
        preprocessing.mean,
        preprocessing.std,
    )


def colours_of(audit: Audit, image: Floats) -> Floats:
    """Undo the model's normalisation: colours 0–1."""
    mean, std = _scale(audit)
    return np.asarray(image * std + mean, np.float32)


def normalised(audit: Audit, colours: Floats) -> Floats:
    """Apply the model's normalisation."""
    mean, std = _scale(audit)
    return np.asarray((colours - mean) / std, np.float32)


def _scale(audit: Audit) -> tuple[Floats, Floats]:
    preprocessing = audit.model.preprocessing
    mean, std = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (preprocessing.mean, preprocessing.std))
    return mean, std

"""Is a registration to be trusted: overlap, tissue, similarity, deformation; what fails is named."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.anatomy.brain_registration import Registration, voxel_points
from pipeline.anatomy.brain_template import load_template
from pipeline.anatomy.brain_working import WorkingImage
from pipeline.images.types import BoolArray, FloatArray, LabelArray

MIN_BRAIN_DICE = 0.90
MIN_TISSUE_DICE = 0.45  # of grey and of white matter
MIN_CORRELATION = 0.60
MAX_FOLDED = 1e-4  # share of the brain where the deformation folds
JACOBIAN_RANGE = (0.08, 6.0)  # 1st and 99th percentile in the brain
STRETCH_RANGE = (0.6, 1.8)  # of the affine, along its principal axes
MAX_ANISOTROPY = 1.5
MIN_CONTRAST = 0.03  # between tissues, as a share of white matter
MIN_LITRES = 0.7  # of the patient's brain: half a head is not stretched into a whole one


@dataclass(frozen=True)
class Quality:
    """How well a template, once carried to a patient, agrees with the patient.

    Attributes
    ----------
    brain, grey, white : float
        Dice overlap of the carried template's brain and tissues with the patient's own, found from
        intensities alone.
    fluid : float
        The same of cerebrospinal fluid; not judged, since templates are thin there.
    correlation : float
        Of intensities within both brains.
    contrast : float
        The smaller step of the medians fluid → grey → white, over white; negative where the order is wrong.
    folded : float
        Share of the brain with a Jacobian determinant ≤ 0.
    jacobian : tuple of float
        1st and 99th percentile of the deformation's Jacobian determinant in the brain.
    stretch : tuple of float
        Smallest and largest stretch of the affine; negative where it mirrors.
    litres : float
        Volume of the patient's brain.
    lost : tuple of str
        Regions of which less than half came out.
    """

    brain: float
    grey: float
    white: float
    fluid: float
    correlation: float
    contrast: float
    folded: float
    jacobian: tuple[float, float]
    stretch: tuple[float, float]
    litres: float
    lost: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """What fails, one clause each; empty when the registration may be used."""
        found = []
        if self.litres < MIN_LITRES:
            found.append(f"its brain has {self.litres:.2f} l, below {MIN_LITRES} l: part of it is missing")
        if self.brain < MIN_BRAIN_DICE:
            found.append(
                f"its brain overlaps the template's by {self.brain:.2f} Dice, below {MIN_BRAIN_DICE}"
            )
        for name, value in (("grey", self.grey), ("white", self.white)):
            if value < MIN_TISSUE_DICE:
                found.append(
                    f"its {name} matter overlaps the template's by {value:.2f}, below {MIN_TISSUE_DICE}"
                )
        if self.correlation < MIN_CORRELATION:
            found.append(
                f"it correlates with the template by {self.correlation:.2f}, below {MIN_CORRELATION}"
            )
        if self.contrast < MIN_CONTRAST:
            found.append("its tissues are not ordered fluid < grey < white as in a T1-weighted image")
        if self.folded > MAX_FOLDED:
            found.append(f"the deformation folds in {self.folded:.2%} of the brain")
        low, high = self.jacobian
        if low < JACOBIAN_RANGE[0] or high > JACOBIAN_RANGE[1]:
            found.append(f"the deformation changes volumes by {low:.2f}–{high:.1f}")
        if self.stretch[0] < 0:
            found.append("the transform mirrors the brain")
        elif (
            self.stretch[0] < STRETCH_RANGE[0]
            or self.stretch[1] > STRETCH_RANGE[1]
            or self.stretch[1] > MAX_ANISOTROPY * self.stretch[0]
        ):
            found.append(f"the transform stretches it by {self.stretch[0]:.2f}–{self.stretch[1]:.2f}")
        if self.lost:
            listed = ", ".join(self.lost[:6]) + (" …" if len(self.lost) > 6 else "")
            found.append(f"{len(self.lost)} regions lie outside it ({listed})")
        return tuple(found)


def judge(patient: WorkingImage, registration: Registration, lost: tuple[str, ...] = ()) -> Quality:
    """Hold a registration against the patient's own image.

    Parameters
    ----------
    patient : WorkingImage
        Of `working_image`: brain cut out, without bias.
    registration : Registration
    lost : tuple of str
        Regions lost on the way, found by the caller.
    """
    t1, grey, white, brain = _carried(patient, registration)
    both = patient.brain & (brain > 0.5)
    values = patient.data[both]
    tissue = np.where(white > np.maximum(grey, 0.4), 2, np.where(grey > 0.4, 1, 0))
    own = _own_tissue(patient)
    medians = [
        float(np.median(values[tissue[both] == k])) if (tissue[both] == k).any() else 0 for k in range(3)
    ]
    steps = (medians[1] - medians[0], medians[2] - medians[1])
    jacobian = _jacobian_in(patient, registration)
    singular = np.linalg.svd(registration.template_from_image[:3, :3])[1]
    sign = float(np.sign(np.linalg.det(registration.template_from_image[:3, :3])))
    correlation = 0.0
    if both.sum() > 100 and values.std() > 0 and t1[both].std() > 0:
        correlation = float(np.corrcoef(values, t1[both])[0, 1])
    fluid, grey_dice, white_dice = (
        _dice((own == k) & patient.brain, (tissue == k) & (brain > 0.5)) for k in range(3)
    )
    return Quality(
        brain=_dice(patient.brain, brain > 0.5),
        grey=grey_dice,
        white=white_dice,
        fluid=fluid,
        correlation=correlation,
        contrast=min(steps) / max(medians[2], 1e-6),
        folded=float((jacobian <= 0).mean()),
        jacobian=(float(np.percentile(jacobian, 1)), float(np.percentile(jacobian, 99))),
        stretch=(sign * float(singular.min()), float(singular.max())),
        litres=float(patient.brain.sum()) * abs(float(np.linalg.det(patient.affine[:3, :3]))) / 1e6,
        lost=lost,
    )


def _carried(
    patient: WorkingImage, registration: Registration
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """T1, grey, white and brain of the template at the patient's voxels, 0 outside."""
    from scipy.ndimage import map_coordinates

    template = load_template()
    points = registration.to_template(voxel_points(patient.data.shape, patient.affine))
    at = points - template.affine[:3, 3:]  # 1 mm voxels, RAS+
    sampled = [
        map_coordinates(array, at, order=1, output=np.float32).reshape(patient.data.shape)
        for array in (template.t1, template.grey, template.white, template.brain.astype(np.float32))
    ]
    return sampled[0], sampled[1], sampled[2], sampled[3]


def _own_tissue(patient: WorkingImage) -> LabelArray:
    """0 fluid, 1 grey, 2 white by two thresholds on the patient's own histogram (Otsu 1979)."""
    from skimage.filters import threshold_multiotsu

    values = patient.data[patient.brain]
    inside = values[(values > np.percentile(values, 0.5)) & (values < np.percentile(values, 99.5))]
    try:
        low, high = threshold_multiotsu(inside, classes=3, nbins=128)
    except ValueError:  # fewer than three grey values
        return np.zeros(patient.data.shape, np.int32)
    return np.asarray(np.digitize(patient.data, [low, high]), np.int32)


def _dice(a: BoolArray, b: BoolArray) -> float:
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 0.0


def _jacobian_in(patient: WorkingImage, registration: Registration) -> FloatArray:
    """Jacobian determinants of the deformation within the brain."""
    jacobian = registration.jacobian()
    if jacobian.shape == patient.brain.shape:
        return jacobian[patient.brain]
    return jacobian.ravel()

"""From a patient's brain to the template: bias field, affine, then a diffeomorphic deformation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.anatomy.brain_template import load_template
from pipeline.anatomy.brain_working import WorkingImage, coarse, template_image, working_image
from pipeline.images.types import Affine, BoolArray, FloatArray, Volume

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

Points = npt.NDArray[np.float64]

AFFINE_STEPS_MM = (8.0, 4.0)
STARTS_DEGREES = (0.0, -22.0, 22.0)
_LOCAL_VOXELS = 2.0  # width of the neighbourhood whose mean and contrast are taken off
_LEAST_CONTRAST = 0.03


class Level(NamedTuple):
    """One level of the deformation.

    Attributes
    ----------
    step : float
        Voxel size in millimetres.
    iterations : int
    smoothing : float
        Standard deviation of the Gaussian on the field after every iteration, in voxels.
    own : float
        Share of the intensities themselves; the rest is their local contrast.
    diffeomorphic : bool
        Whether updates are composed through their exponential (slower, hardly folds) or added.
    """

    step: float
    iterations: int
    smoothing: float
    own: float
    diffeomorphic: bool


LEVELS = (
    Level(8.0, 400, 1.4, own=0.0, diffeomorphic=False),
    Level(4.0, 400, 1.4, own=0.0, diffeomorphic=False),
    Level(2.0, 40, 1.2, own=0.3, diffeomorphic=True),
)


@dataclass(frozen=True)
class Registration:
    """Where each point of a patient's image lies in the template.

    World coordinates are millimetres, RAS+. A point p of the patient lies at
    `template_from_image · (p + displacement(p))`.

    Attributes
    ----------
    template_from_image : ndarray of float64, shape (4, 4)
        Patient's world to template's world.
    displacement : ndarray of float32, shape (3, X, Y, Z)
        Millimetres in the patient's world, on a grid of its own; zero beyond it. All zero, on one voxel,
        when only the affine is meant.
    grid : ndarray of float64, shape (4, 4)
        Voxel of that grid to the patient's world.
    """

    template_from_image: Affine
    displacement: FloatArray
    grid: Affine

    def to_template(self, points: Points) -> Points:
        """Carry points (3, N) from the patient's world to the template's."""
        moved = points
        if self.displacement[0].size > 1:
            from scipy.ndimage import map_coordinates

            inverse = np.linalg.inv(self.grid)
            at = inverse[:3, :3] @ points + inverse[:3, 3:]
            shifts = [map_coordinates(part, at, order=1, mode="constant") for part in self.displacement]
            moved = points + np.stack(shifts)
        return np.asarray(self.template_from_image[:3, :3] @ moved + self.template_from_image[:3, 3:])

    def affine_only(self) -> Registration:
        """Return the same without its deformation."""
        return identity(self.template_from_image)

    def jacobian(self) -> FloatArray:
        """Volume ratio of the deformation at each voxel of its grid; below 0 where it folds."""
        step = np.diag(self.grid)[:3]
        if self.displacement[0].size == 1:
            return np.ones(self.displacement.shape[1:], np.float32)
        parts = [np.gradient(part, *step) for part in self.displacement]
        matrix = np.moveaxis(np.asarray(parts), (0, 1), (-2, -1)) + np.eye(3, dtype=np.float32)
        return np.asarray(np.linalg.det(matrix), np.float32)


def identity(template_from_image: Affine | None = None) -> Registration:
    """Return a registration without deformation: of an image that lies in template space by default."""
    affine = np.eye(4) if template_from_image is None else template_from_image
    return Registration(affine, np.zeros((3, 1, 1, 1), np.float32), np.eye(4))


def voxel_points(shape: tuple[int, ...], affine: Affine) -> Points:
    """World millimetres of every voxel centre, shape (3, N) in C order."""
    index = np.indices(shape, dtype=np.float32).reshape(3, -1)
    return np.asarray(affine[:3, :3] @ index + affine[:3, 3:])


def register(volume: Volume, *, deformable: bool = True, threads: int = 2) -> Registration:
    """Register a T1 brain, with or without its skull, to the MNI152 template.

    The brain is cut out, its bias field removed (N4), its grey values matched to the template's; a
    multi-start affine maximises mutual information, and demons on local contrast do the rest at 8, 4 and
    2 mm, the last level diffeomorphic.
    Nothing is judged here: see `pipeline.anatomy.brain_quality`.

    Parameters
    ----------
    volume : Volume
        In any orientation and voxel size.
    deformable : bool, default True
        Whether to go on after the affine.
    threads : int, default 2

    Returns
    -------
    Registration

    Raises
    ------
    pipeline.errors.AnatomyError
        If no brain can be found in the image.

    References
    ----------
    Tustison et al. 2010, doi:10.1109/TMI.2010.2046908 (N4); Mattes et al. 2003,
    doi:10.1109/TMI.2003.809072 (mutual information); Vercauteren et al. 2009,
    doi:10.1016/j.neuroimage.2008.10.040 (demons).
    """
    patient = working_image(volume, LEVELS[-1].step, threads)
    affine = _affine(patient, threads)
    if not deformable:
        return identity(affine)
    return _demons(patient, affine, threads)


def _affine(patient: WorkingImage, threads: int) -> Affine:
    """Best of several starts by mutual information at 8 mm, refined at 4 mm."""
    import SimpleITK as sitk  # noqa: N813

    template = load_template()
    volume_ratio = template.brain.sum() / (patient.brain.sum() * np.linalg.det(patient.affine[:3, :3]))
    here = np.argwhere(patient.brain).mean(0) @ patient.affine[:3, :3] + patient.affine[:3, 3]
    there = np.argwhere(template.brain).mean(0) + template.affine[:3, 3]
    fixed, moving = coarse(patient, AFFINE_STEPS_MM[0]), template_image(AFFINE_STEPS_MM[0])
    found: list[tuple[float, sitk.Transform]] = []
    for axis in range(3):
        for degrees in STARTS_DEGREES if axis == 0 else STARTS_DEGREES[1:]:
            start = sitk.AffineTransform(3)
            start.SetCenter(here.tolist())
            start.SetTranslation((there - here).tolist())
            turn = _rotation(axis, degrees) * np.cbrt(volume_ratio)
            start.SetMatrix(turn.ravel().tolist())
            found.append(_maximise(fixed, moving, start, 40, threads))
    best = min(found, key=lambda pair: pair[0])[1]
    fixed, moving = coarse(patient, AFFINE_STEPS_MM[1]), template_image(AFFINE_STEPS_MM[1])
    best = _maximise(fixed, moving, best, 60, threads)[1]
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(best.GetMatrix()).reshape(3, 3)
    centre = np.array(best.GetCenter())
    matrix[:3, 3] = np.array(best.GetTranslation()) + centre - matrix[:3, :3] @ centre
    return matrix


def _rotation(axis: int, degrees: float) -> npt.NDArray[np.float64]:
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(3)
    i, j = [k for k in range(3) if k != axis]
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = cosine, -sine, sine, cosine
    return matrix


def _maximise(
    fixed: sitk.Image, moving: sitk.Image, start: sitk.Transform, iterations: int, threads: int
) -> tuple[float, sitk.Transform]:
    """Maximise mutual information from one start; returns (minus information, transform)."""
    import SimpleITK as sitk  # noqa: N813

    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=4.0, minStep=0.05, numberOfIterations=iterations, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetNumberOfThreads(threads)
    transform = sitk.AffineTransform(start)
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(fixed, moving)
    return float(method.GetMetricValue()), transform


def _matched(data: FloatArray, brain: BoolArray, reference: FloatArray, there: BoolArray) -> FloatArray:
    """Bring the template's grey values to the patient's by quantiles, within the brains."""
    at = np.linspace(1, 99, 25)
    source, target = np.percentile(data[brain], at), np.percentile(reference[there], at)
    keep = np.concatenate([[True], np.diff(source) > 1e-4])
    out = np.interp(data, np.append(0, source[keep]), np.append(0, target[keep]))
    return np.asarray(np.where(brain, out, 0), np.float32)


def contrast(image: sitk.Image, own: float) -> sitk.Image:
    """Take off each neighbourhood's mean and divide by its standard deviation; keep a share of the image.

    Squared differences of such images rise and fall with local cross-correlation, at the cost of demons;
    what is left of the bias field, and grey values that differ from place to place, no longer pull.
    """
    import SimpleITK as sitk  # noqa: N813
    from scipy.ndimage import gaussian_filter

    data = sitk.GetArrayFromImage(image)
    inside = np.asarray(data > 0.02, np.float32)
    share = gaussian_filter(inside, _LOCAL_VOXELS) + 1e-3
    mean = gaussian_filter(data * inside, _LOCAL_VOXELS) / share
    variance = gaussian_filter(data**2 * inside, _LOCAL_VOXELS) / share - mean**2
    spread = np.sqrt(np.maximum(variance, 0) + _LEAST_CONTRAST**2)
    local = np.where(inside > 0, 0.25 * (data - mean) / spread + 0.7, 0)  # as wide as the intensities
    out = sitk.GetImageFromArray(np.asarray(own * data + (1 - own) * local, np.float32))
    out.CopyInformation(image)
    return out


def _demons(patient: WorkingImage, affine: Affine, threads: int) -> Registration:
    """Demons from coarse to fine between the patient and the affinely moved template."""
    import SimpleITK as sitk  # noqa: N813

    linear = sitk.AffineTransform(3)
    linear.SetMatrix(affine[:3, :3].ravel().tolist())
    linear.SetTranslation(affine[:3, 3].tolist())
    field: sitk.Image | None = None
    template = load_template()
    reference = template.t1 / np.percentile(template.t1[template.brain], 95)
    matched = WorkingImage(
        _matched(patient.data, patient.brain, reference, template.brain), patient.brain, patient.affine
    )
    for level in LEVELS:
        fixed = coarse(matched, level.step)
        moved = sitk.Resample(template_image(level.step), fixed, linear, sitk.sitkLinear, 0.0)
        fixed, moved = contrast(fixed, level.own), contrast(moved, level.own)
        demons = (
            sitk.DiffeomorphicDemonsRegistrationFilter()
            if level.diffeomorphic
            else sitk.FastSymmetricForcesDemonsRegistrationFilter()
        )
        demons.SetNumberOfIterations(level.iterations)
        demons.SetStandardDeviations(level.smoothing)
        demons.SmoothDisplacementFieldOn()
        demons.SetMaximumUpdateStepLength(1.0)
        demons.SetNumberOfThreads(threads)
        if field is None:
            field = demons.Execute(fixed, moved)
        else:
            field = demons.Execute(fixed, moved, sitk.Resample(field, fixed))
    # half precision (0.01 mm) at once, so that a stored registration gives the very same regions
    displacement = np.asarray(sitk.GetArrayFromImage(field), np.float16).transpose(3, 2, 1, 0)
    return Registration(affine, np.ascontiguousarray(displacement, np.float32), patient.affine)

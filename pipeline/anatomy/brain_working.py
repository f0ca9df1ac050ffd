"""The images that a registration works on: a brain cut out and unbiased, the template, both coarser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.anatomy.brain_mask import brain_mask
from pipeline.anatomy.brain_template import load_template
from pipeline.images.types import Affine, BoolArray, FloatArray, Volume

if TYPE_CHECKING:
    import SimpleITK as sitk  # noqa: N813

_MARGIN_MM = 12.0


@dataclass(frozen=True)
class WorkingImage:
    """A brain cut out, unbiased, on an isotropic grid along the world's axes; white matter about 1."""

    data: FloatArray
    brain: BoolArray
    affine: Affine


def working_image(volume: Volume, step: float, threads: int = 2) -> WorkingImage:
    """Cut out the brain and bring it onto a grid of `step` mm with a margin, without its bias field."""
    from scipy.ndimage import affine_transform, gaussian_filter

    mask = brain_mask(volume)
    here = np.argwhere(mask)
    corners = np.array(np.meshgrid(*zip(here.min(0), here.max(0), strict=True))).reshape(3, -1)
    world = volume.affine[:3, :3] @ corners + volume.affine[:3, 3:]
    low, high = world.min(1) - _MARGIN_MM, world.max(1) + _MARGIN_MM
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = low
    shape = tuple(int(n) for n in np.ceil((high - low) / step).astype(int) + 1)
    pull = np.linalg.inv(volume.affine) @ affine
    blur = [0.4 * max(step / s - 1, 0) for s in volume.spacing]
    data = gaussian_filter(np.where(mask, np.nan_to_num(volume.data), 0).astype(np.float32), blur)
    sampled = affine_transform(data, pull[:3, :3], pull[:3, 3], output_shape=shape, order=1)
    share = affine_transform(mask.astype(np.float32), pull[:3, :3], pull[:3, 3], output_shape=shape, order=1)
    brain = share > 0.5
    clean = np.where(brain, np.clip(sampled, 0, None), 0)
    top = float(np.percentile(clean[brain], 95)) if brain.any() else 1.0
    clean = (clean / max(top, 1e-6)).astype(np.float32)
    return WorkingImage(_unbiased(clean, brain, step, threads), brain, affine)


def _unbiased(data: FloatArray, brain: BoolArray, step: float, threads: int) -> FloatArray:
    """Divide by the N4 bias field, estimated at about 6 mm."""
    import SimpleITK as sitk  # noqa: N813

    shrink = max(1, round(6.0 / step))
    image, mask = itk_image(data, np.eye(4)), itk_image(brain.astype(np.uint8), np.eye(4))
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([12, 8, 6])
    n4.SetNumberOfControlPoints([4, 4, 4])
    n4.SetNumberOfThreads(threads)
    n4.Execute(sitk.Shrink(image, [shrink] * 3), sitk.Shrink(mask, [shrink] * 3))
    field = np.asarray(sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image))).T
    out = np.where(brain, data / np.exp(field), 0)
    return np.asarray(out / max(float(np.percentile(out[brain], 95)), 1e-6), np.float32)


def itk_image(data: npt.NDArray[Any], affine: Affine) -> sitk.Image:
    """Wrap an array whose grid runs along the world's axes; RAS+ stands in for ITK's frame throughout."""
    import SimpleITK as sitk  # noqa: N813

    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    image.SetSpacing([float(s) for s in np.diag(affine)[:3]])
    image.SetOrigin([float(o) for o in affine[:3, 3]])
    return image


def template_image(step: float) -> sitk.Image:
    """Template T1 for a grid of `step` mm: smoothed, at 1 mm up to 2 mm and 2 mm beyond."""
    from scipy.ndimage import gaussian_filter

    template = load_template()
    t1 = np.where(template.brain, template.t1, 0)
    data = gaussian_filter(t1 / np.percentile(t1[template.brain], 95), 0.35 * (step - 1))
    stride = 1 if step <= 2 else 2
    affine = template.affine @ np.diag([stride, stride, stride, 1.0])
    return itk_image(data[::stride, ::stride, ::stride].astype(np.float32), affine)


def coarse(image: WorkingImage, step: float) -> sitk.Image:
    """Shrink a working image to `step` mm."""
    import SimpleITK as sitk  # noqa: N813
    from scipy.ndimage import gaussian_filter

    factor = round(step / image.affine[0, 0])
    data = gaussian_filter(image.data, 0.4 * factor) if factor > 1 else image.data
    return sitk.Shrink(itk_image(data, image.affine), [factor] * 3)

"""An MRI on a model's input grid, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import ModelError
from pipeline.models.prepared import Prepared

if TYPE_CHECKING:
    from pipeline.images.types import Affine, BoolArray, FloatArray, Volume
    from pipeline.models.card import Preprocessing


def prepare_mri(volume: Volume, preprocessing: Preprocessing) -> Prepared:
    """Bring an MRI onto a model's grid.

    Parameters
    ----------
    volume : Volume
        In any orientation: the affine says where each voxel lies.
    preprocessing : Preprocessing
        `mri_grid` resamples (linear) in world space and scales the mean of the brain to 1; `as_read`
        gives the stored intensities on the stored grid.

    Returns
    -------
    Prepared
        Tensor of shape (1, 1, *spatial).

    Raises
    ------
    pipeline.errors.ModelError
        For another kind of preprocessing, a grid that is not 3D, or a brain that does not lie on it.
    pipeline.errors.AnatomyError
        If no brain can be found in the image.
    """
    import torch

    from pipeline.anatomy.brain_mask import brain_mask

    if preprocessing.kind == "as_read":
        tensor = torch.from_numpy(np.array(volume.data, dtype=np.float32))[None, None]
        return Prepared(tensor, np.eye(4), volume.shape, brain_mask(volume), volume.affine)
    if preprocessing.kind != "mri_grid":
        raise ModelError(
            f"the model's preprocessing {preprocessing.kind!r} is not for MRI", "give it the images it is for"
        )
    affine = np.array(preprocessing.affine, dtype=np.float64)
    native_from_model = np.linalg.inv(volume.affine) @ affine
    image = resample(np.nan_to_num(volume.data), native_from_model, preprocessing.shape)
    field = on_grid(brain_mask(volume), native_from_model, preprocessing.shape)
    mean = float(image[field].mean()) if field.any() else 0.0
    if mean <= 0:
        raise ModelError(
            f"{volume.name or 'image'}: no brain lies on the model's grid",
            "the model expects images in MNI space: register the image first, and check its affine",
        )
    tensor = torch.from_numpy(image / np.float32(mean))[None, None]
    return Prepared(tensor, native_from_model, volume.shape, field, affine)


def resample(data: FloatArray, native_from_model: Affine, shape: tuple[int, ...]) -> FloatArray:
    """Sample `data` linearly at the voxels of another grid; 0 outside."""
    from scipy.ndimage import affine_transform

    out = affine_transform(
        np.asarray(data, np.float32),
        native_from_model[:3, :3],
        native_from_model[:3, 3],
        output_shape=shape,
        order=1,
    )
    return np.asarray(out, np.float32)


def on_grid(mask: BoolArray, native_from_model: Affine, shape: tuple[int, ...]) -> BoolArray:
    """Sample a mask at the voxels of another grid, by the half that covers each voxel."""
    return np.asarray(resample(mask.astype(np.float32), native_from_model, shape) >= 0.5)

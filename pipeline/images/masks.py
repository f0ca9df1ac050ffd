"""Expert masks in: where a lesion was marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ImageError
from pipeline.files import is_there, why
from pipeline.images.photographs import open_picture
from pipeline.images.types import Affine, BoolArray
from pipeline.images.volumes import is_nifti


def read_mask(path: Path | str, shape: tuple[int, ...], affine: Affine | None = None) -> BoolArray:
    """Read an expert's mask and hold it against its image.

    Parameters
    ----------
    path : path
        NIfTI (non-zero is marked) or PNG/TIFF (any non-zero palette index or channel is marked).
    shape : tuple of int
        Spatial shape of the image the mask belongs to.
    affine : ndarray, shape (4, 4), optional
        The image's affine; a NIfTI mask must lie on the same grid within 0.01 mm.

    Returns
    -------
    ndarray of bool, shape `shape`

    Raises
    ------
    pipeline.errors.ImageError
        If the mask cannot be read or does not match its image. An empty mask is not an error.
    """
    path = Path(path)
    mask = _nifti_mask(path, affine) if is_nifti(path) else _picture_mask(path)
    if mask.shape != tuple(shape):
        raise ImageError(
            f"{path.name}: mask of {_times(mask.shape)} does not match its image of {_times(shape)}",
            "resample the mask to the image's grid (nearest neighbour)",
        )
    return mask


def _nifti_mask(path: Path, affine: Affine | None) -> BoolArray:
    import nibabel as nib

    if not is_there(path):
        raise ImageError(
            f"{path.name}: file not found", "check the path; in a table, paths are relative to the table"
        )
    try:
        image = nib.load(path)
        data = np.asanyarray(image.dataobj)
    except Exception as error:
        raise ImageError(
            f"{path.name}: cannot be read ({why(error, path)})", "export the mask again"
        ) from error
    _refuse_no_numbers(data, path.name)
    if affine is not None and not np.allclose(image.affine, affine, atol=1e-2):
        raise ImageError(
            f"{path.name}: mask lies on another grid than its image",
            "resample the mask to the image's grid (nearest neighbour)",
        )
    return np.asarray(data != 0)


def _picture_mask(path: Path) -> BoolArray:
    with open_picture(path) as picture:
        data = np.asarray(picture)
        if picture.mode in ("RGBA", "LA"):
            data = data[..., :-1]
    _refuse_no_numbers(data, path.name)
    return np.asarray(data.any(axis=-1) if data.ndim == 3 else data != 0)


def _refuse_no_numbers(data: npt.NDArray[Any], name: str) -> None:
    if data.dtype.names:
        raise ImageError(f"{name}: mask holds colours, not numbers", "export it as integers, 0 = not marked")
    if data.dtype.kind in "fc" and not np.isfinite(data).all():
        raise ImageError(f"{name}: mask holds NaN or infinite values", "export the mask again")


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(str(n) for n in shape)

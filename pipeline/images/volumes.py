"""NIfTI volumes in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ImageError
from pipeline.files import is_there, whole_file, why
from pipeline.images.types import Affine, FloatArray, Volume

NIFTI_SUFFIXES = (".nii", ".nii.gz")


def is_nifti(path: Path) -> bool:
    """Whether the file's name says NIfTI."""
    return path.name.lower().endswith(NIFTI_SUFFIXES)


def read_volume(path: Path | str) -> Volume:
    """Read a 3D NIfTI volume.

    Parameters
    ----------
    path : path
        A `.nii` or `.nii.gz` file.

    Returns
    -------
    Volume
        Intensities as stored (scale factors of the header applied), float32; axes as in the file.

    Raises
    ------
    pipeline.errors.ImageError
        If the file is missing, unreadable, truncated, not 3D, without an affine, constant, or holds NaN
        or infinite voxels.
    """
    import nibabel as nib

    path = Path(path)
    if not is_there(path):
        raise ImageError(
            f"{path.name}: file not found", "check the path; in a table, paths are relative to the table"
        )
    if not is_nifti(path):
        raise ImageError(f"{path.name}: not a NIfTI file", "convert it to .nii or .nii.gz")
    try:
        image = nib.load(path)
        array = np.asanyarray(image.dataobj)
    except Exception as error:
        raise ImageError(
            f"{path.name}: cannot be read ({why(error, path)})", "export the image again"
        ) from error
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise ImageError(
            f"{path.name}: has {array.ndim} dimensions {array.shape}, expected 3",
            "extract one volume of the series",
        )
    header = image.header
    if int(header.get("qform_code", 0)) == 0 and int(header.get("sform_code", 0)) == 0:
        raise ImageError(
            f"{path.name}: no affine (neither qform nor sform is set)",
            "its left and right are unknown: convert it again from the original",
        )
    affine = np.asarray(image.affine, np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise ImageError(f"{path.name}: its affine is not invertible", "convert it again from the original")
    if array.dtype.names or np.iscomplexobj(array):
        raise ImageError(
            f"{path.name}: holds {'colours' if array.dtype.names else 'complex numbers'}, not intensities",
            "export the grey-scale magnitude image",
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused below
        data = np.ascontiguousarray(array, np.float32)
    _refuse_bad_values(data, path.name)
    return Volume(data, affine, path.name)


def write_volume(path: Path, data: npt.NDArray[Any], affine: Affine) -> None:
    """Write an array as NIfTI in its own dtype; the file appears whole or not at all.

    Parameters
    ----------
    path : Path
        Ends in `.nii.gz` or `.nii`.
    data : ndarray, shape (X, Y, Z)
        float32 for maps, integers for labels.
    affine : ndarray, shape (4, 4)
        Voxel to world millimetres, RAS+.
    """
    import nibabel as nib

    image = nib.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1, strip_shears=True)
    with whole_file(path) as part:
        nib.save(image, part)


def _refuse_bad_values(data: FloatArray, name: str) -> None:
    bad = int(data.size - np.isfinite(data).sum())
    if bad:
        raise ImageError(
            f"{name}: {bad} of {data.size} values are NaN or infinite", "mend or export the image again"
        )
    if data.size == 0 or data.min() == data.max():
        raise ImageError(f"{name}: the image is constant", "export it again")

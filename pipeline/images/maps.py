"""Relevance maps out: NIfTI for volumes, float TIFF with a sidecar for photographs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.files import whole_file, write_text
from pipeline.images.types import FloatArray
from pipeline.images.volumes import write_volume


def write_map(
    folder: Path,
    name: str,
    values: FloatArray,
    *,
    affine: npt.NDArray[np.float64] | None,
    native_from_model: npt.NDArray[np.float64],
    native_shape: tuple[int, ...],
) -> Path:
    """Write a map on the grid where it was computed.

    Parameters
    ----------
    folder, name : Path, str
        The file is `folder/name.nii.gz` (3D) or `folder/name.tif` (2D).
    values : ndarray of float32, shape spatial
        Signed relevance.
    affine : ndarray, shape (4, 4)
        Grid voxel to world millimetres (3D).
    native_from_model : ndarray, shape (D + 1, D + 1)
        Grid index to native pixel index (pixel centres): written to `name.json` beside a TIFF.
    native_shape : tuple of int
        Rows and columns of the native photograph, likewise.

    Returns
    -------
    Path
        The map's file.
    """
    if values.ndim == 3:
        assert affine is not None
        path = folder / f"{name}.nii.gz"
        write_volume(path, np.asarray(values, np.float32), affine)
        return path
    import tifffile

    path = folder / f"{name}.tif"
    with whole_file(path) as part:
        tifffile.imwrite(part, np.asarray(values, np.float32), compression="zlib", metadata=None)
    sidecar = {
        "native_from_model": native_from_model.tolist(),
        "native_shape": list(native_shape),
        "index": "row, column of pixel centres; 0 is the centre of the first pixel",
        "sign": "positive speaks for the class",
    }
    write_text(folder / f"{name}.json", json.dumps(sidecar, indent=1) + "\n")
    return path

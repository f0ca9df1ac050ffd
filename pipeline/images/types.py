"""What an image is here: a volume in millimetres or a photograph in pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
LabelArray = npt.NDArray[np.int32]
Affine = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Volume:
    """A 3D MRI.

    Attributes
    ----------
    data : ndarray of float32, shape (X, Y, Z)
        Stored intensities, axes as in the file.
    affine : ndarray of float64, shape (4, 4)
        Voxel index to world millimetres, RAS+ (nibabel's convention).
    name : str
        The file's name, for messages only.
    """

    data: FloatArray
    affine: Affine
    name: str = ""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size along each array axis, in millimetres."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along each axis."""
        x, y, z = self.data.shape
        return x, y, z


@dataclass(frozen=True)
class Photograph:
    """A colour fundus photograph.

    Attributes
    ----------
    data : ndarray of float32, shape (H, W, 3)
        Red, green, blue in 0–1, rows from the top, orientation of EXIF applied.
    name : str
        The file's name, for messages only.
    """

    data: FloatArray
    name: str = ""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.data.shape[0], self.data.shape[1]

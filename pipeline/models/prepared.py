"""An image as a model takes it, and the way back to where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

    from pipeline.images.types import BoolArray


@dataclass(frozen=True)
class Prepared:
    """One image on the model's input grid.

    Attributes
    ----------
    tensor : torch.Tensor, float32, shape (1, C, *spatial)
        What the model is given.
    native_from_model : ndarray of float64, shape (D + 1, D + 1)
        Homogeneous transform: model-grid index (voxel or pixel centre) → native index.
    native_shape : tuple of int
        Spatial shape of the native image.
    field : ndarray of bool, shape spatial
        Brain (MRI) or field of view (fundus) on the model grid: chance is counted in here.
    affine : ndarray of float64, shape (4, 4), optional
        Model-grid voxel → world millimetres (MRI only).
    """

    tensor: torch.Tensor
    native_from_model: npt.NDArray[np.float64]
    native_shape: tuple[int, ...]
    field: BoolArray
    affine: npt.NDArray[np.float64] | None = None

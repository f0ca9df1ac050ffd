"""Stability: whether a map stays as it is when the image changes by less than a reader could see.

Noise that leaves the decision alone should leave its explanation alone (max-sensitivity, Yeh et al. 2019,
arXiv:1901.09392; Alvarez-Melis and Jaakkola 2018, arXiv:1806.08049).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.trust.field import checked
from pipeline.trust.similarity import rank_correlation

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

NOISE = 0.05
"""Standard deviation of the noise over that of the image in the field."""
DRAWS = 3


@dataclass(frozen=True)
class Stability:
    """How much a map moves under noise.

    Attributes
    ----------
    largest, mean : float
        Relative change ‖R(x + ε) − R(x)‖ / ‖R(x)‖ in the field: the largest and the mean over the draws.
    rank : float
        Mean Spearman correlation of R(x + ε) with R(x).
    """

    largest: float
    mean: float
    rank: float


def noisy(
    image: torch.Tensor, field: BoolArray, *, noise: float = NOISE, draws: int = DRAWS, seed: int = 0
) -> torch.Tensor:
    """Add Gaussian noise inside the anatomy.

    Parameters
    ----------
    image : torch.Tensor, shape (1, C, *spatial)
    field : ndarray of bool, shape spatial
    noise : float
        Standard deviation, as a share of that of each channel in the field.
    draws, seed : int

    Returns
    -------
    torch.Tensor, shape (draws, C, *spatial)
    """
    import torch

    inside = torch.from_numpy(np.ascontiguousarray(field)).to(image.device)
    axes = [1] * (image.ndim - 2)
    spread = image[0][:, inside].double().std(dim=1).to(image).reshape(1, -1, *axes)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn((draws, *image.shape[1:]), generator=generator, dtype=torch.float64).to(image)
    return image + noise * spread * drawn * inside


def stability(values: npt.ArrayLike, moved: npt.ArrayLike, field: BoolArray) -> Stability:
    """Compare the map of an image with those of noisy copies of it.

    Parameters
    ----------
    values : array, shape spatial
    moved : array, shape (draws, *spatial)
    field : ndarray of bool, shape spatial

    Returns
    -------
    Stability
        NaN where the map is zero in the field.

    Raises
    ------
    MethodError
        If shapes differ, or the field is empty.
    """
    inside, (plain, *others) = checked(field, values, *np.asarray(moved))
    size = float(np.linalg.norm(plain[inside]))
    if size == 0:
        return Stability(float("nan"), float("nan"), float("nan"))
    changes = [float(np.linalg.norm(other[inside] - plain[inside])) / size for other in others]
    ranks = [rank_correlation(other, plain, inside) for other in others]
    return Stability(max(changes), float(np.mean(changes)), float(np.mean(ranks)))

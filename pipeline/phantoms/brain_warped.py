"""Brain phantoms out of template space, moved and deformed by known amounts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.images.types import BoolArray, FloatArray, LabelArray, Volume
from pipeline.phantoms.brain import brain_phantom


@dataclass(frozen=True)
class WarpedBrain:
    """A patient whose brain lies anywhere, and the AAL regions where they truly are.

    Attributes
    ----------
    volume : Volume
    labels : ndarray of int32, shape (X, Y, Z)
    brain : ndarray of bool, shape (X, Y, Z)
    largest_mm : float
        Largest displacement of the deformation, apart from rotation, scale and shift.
    """

    volume: Volume
    labels: LabelArray
    brain: BoolArray
    largest_mm: float


def warped_brain(
    seed: int,
    *,
    spacing_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
    scale: float | None = None,
    degrees: float | None = None,
    largest_mm: float | None = None,
    severity: float = 0.0,
    bias: float = 0.15,
    noise: float = 0.02,
) -> WarpedBrain:
    """Draw a brain and move it: a stationary velocity field, then rotation, scale and shift.

    Parameters
    ----------
    seed : int
    spacing_mm : tuple of 3 floats
        Voxel size of the stored image.
    scale : float, optional
        Linear size against the template; drawn from 0.75–1.1.
    degrees : float, optional
        Rotation about a drawn axis; drawn from 0–30.
    largest_mm : float, optional
        Largest displacement of the velocity field's flow; drawn from 4–12.
    severity, noise : float
        Of `brain_phantom`.
    bias : float, default 0.15
        Standard deviation of the logarithm of a smooth bias field.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates

    rng = np.random.default_rng([seed, 0x3A7])
    drawn = rng.uniform(0.75, 1.1), rng.uniform(0, 30), rng.uniform(4, 12)
    scale, degrees, largest_mm = (
        a if b is None else b for a, b in zip(drawn, (scale, degrees, largest_mm), strict=True)
    )
    source = brain_phantom(seed, severity, 1.5, noise=0.0)
    turn = _rotation(rng.normal(size=3), np.deg2rad(degrees))
    shift = rng.uniform(-25, 25, 3)
    size = np.array(source.volume.shape) * source.volume.spacing
    reach = np.abs(turn * scale) @ size / 2 + 6
    middle = (source.volume.affine @ np.append((np.array(source.volume.shape) - 1) / 2, 1))[:3]
    shape = tuple(int(n) for n in np.ceil(2 * reach / np.array(spacing_mm)))
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = middle + shift - reach
    index = np.indices(shape, dtype=np.float32).reshape(3, -1)
    world = affine[:3, :3] @ index + affine[:3, 3:]
    straight = (turn.T / scale) @ (world - (middle + shift)[:, None]) + middle[:, None]
    velocity = _flow(rng, largest_mm)
    inverse = np.linalg.inv(source.volume.affine)
    grid = straight / 6 + 25  # the flow's lattice has 6 mm steps and its middle at the origin
    flowed = straight + np.stack([map_coordinates(part, grid, order=1) for part in velocity])
    at = inverse[:3, :3] @ flowed + inverse[:3, 3:]
    image = map_coordinates(source.volume.data, at, order=1).reshape(shape)
    labels = map_coordinates(source.labels, at, order=0).reshape(shape).astype(np.int32)
    brain = map_coordinates(source.masks["brain"].astype(np.float32), at, order=1).reshape(shape) > 0.5
    smooth = gaussian_filter(rng.standard_normal(shape), [35 / s for s in spacing_mm])
    image = image * np.exp(bias * smooth / smooth.std()) * brain
    level = noise * np.percentile(image[brain], 95)
    image = np.hypot(image + level * rng.standard_normal(shape), level * rng.standard_normal(shape)) * brain
    return WarpedBrain(
        Volume(image.astype(np.float32), affine, f"warped-{seed}"), labels * brain, brain, float(largest_mm)
    )


def _flow(rng: np.random.Generator, largest_mm: float) -> FloatArray:
    """Displacement (3, 51, 51, 51) at 6 mm of a random stationary velocity field, by scaling and squaring."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    lattice = np.indices((51, 51, 51), dtype=np.float64)
    field = np.stack([gaussian_filter(rng.standard_normal((51, 51, 51)), 3.5) for _ in range(3)])
    core = np.linalg.norm(field[:, 12:39, 7:42, 12:39], axis=0).max()
    field *= largest_mm / 6 / core / 2**6
    for _ in range(6):
        field = field + np.stack(
            [map_coordinates(p, lattice + field, order=1, mode="nearest") for p in field]
        )
    reached = np.linalg.norm(field[:, 12:39, 7:42, 12:39], axis=0).max()
    return np.asarray(6 * field * min(1.0, largest_mm / 6 / reached), np.float32)


def _rotation(axis: npt.NDArray[np.float64], angle: float) -> npt.NDArray[np.float64]:
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)

"""How a brain phantom is scanned: coil sensitivity, gain, Rician noise, and faults planted on purpose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.images.types import Affine, BoolArray, FloatArray

SITES: dict[str, tuple[float, float]] = {  # gain in scanner units, strength of the coil's bias field
    "A": (400.0, 0.04),
    "B": (900.0, 0.06),
    "C": (150.0, 0.05),
}
_MARKER_MM = ((-70.0, -58.0), (64.0, 78.0), (58.0, 70.0))  # a corner in front, above and left of the head


@dataclass(frozen=True)
class Faults:
    """What is planted besides the brain; see `brain_phantom`.

    Attributes
    ----------
    marker : float
        Brightness of the block outside the brain, in units of white matter.
    rim : ndarray of bool, shape (X, Y, Z)
        Voxels outside the brain that the skull strip left.
    site_field : float
        Amplitude of the low-frequency pattern.
    noise : float
        Standard deviation of the noise as a fraction of white matter.
    """

    marker: float
    rim: BoolArray
    site_field: float
    noise: float


def scan(
    image: FloatArray, affine: Affine, faults: Faults, site: str, seed: int
) -> tuple[FloatArray, dict[str, BoolArray]]:
    """Scan a clean brain.

    Parameters
    ----------
    image : ndarray of float32, shape (X, Y, Z)
        Clean intensities, white matter about 0.87, 0 outside the brain.
    affine : ndarray of float64, shape (4, 4)
        Voxel to millimetres, without rotation.
    faults : Faults
    site : str
        Key of `SITES`.
    seed : int

    Returns
    -------
    scanned : ndarray of float32, shape (X, Y, Z)
    masks : dict of str to ndarray of bool
        `"marker"` and `"rim"`, where planted.
    """
    rng = np.random.default_rng(seed)
    gain, strength = SITES[site]
    bias = _polynomial(image.shape, strength, rng)
    gain *= rng.normal(1, 0.1)
    planted: dict[str, BoolArray] = {}
    clean = image.copy()
    if faults.rim.any():
        clean[faults.rim] = 0.42
        planted["rim"] = faults.rim
    if faults.site_field:
        clean *= 1 + np.float32(faults.site_field) * _pattern(image.shape, affine)
    clean *= bias
    signal = clean > 0
    sigma = 0.87 * faults.noise
    real, imaginary = (rng.standard_normal(image.shape, dtype=np.float32) for _ in range(2))
    noisy = np.hypot(clean + sigma * real, sigma * imaginary)
    noisy[~signal] = 0  # skull-stripped: the background was removed, its noise too
    if faults.marker:
        planted["marker"] = _marker(image.shape, affine)
        noisy[planted["marker"]] = 0.87 * faults.marker
    return np.asarray(gain * noisy, np.float32), planted


def _polynomial(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> FloatArray:
    """Smooth coil sensitivity: a random quadratic over the grid, about 1."""
    x, y, z = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]
    c = (strength * rng.standard_normal(9)).astype(np.float32)
    field = c[0] * x + c[1] * y + c[2] * z + c[3] * x * x + c[4] * y * y + c[5] * z * z
    return np.asarray(np.exp(field + c[6] * x * y + c[7] * y * z + c[8] * x * z), np.float32)


def _pattern(shape: tuple[int, ...], affine: Affine) -> FloatArray:
    """One site's intensity pattern: a cosine of 160 mm from front to back and top to bottom."""
    y = np.arange(shape[1]) * affine[1, 1] + affine[1, 3]
    z = np.arange(shape[2]) * affine[2, 2] + affine[2, 3]
    wave = np.cos(2 * np.pi * (y[:, None] + 0.6 * z[None, :]) / 160)
    return np.broadcast_to(wave[None].astype(np.float32), shape)


def _marker(shape: tuple[int, ...], affine: Affine) -> BoolArray:
    mask = np.ones(shape, bool)
    for axis, (low, high) in enumerate(_MARKER_MM):
        millimetres = np.arange(shape[axis]) * affine[axis, axis] + affine[axis, 3]
        inside = (millimetres >= low) & (millimetres <= high)
        mask &= inside.reshape([-1 if i == axis else 1 for i in range(3)])
    return mask

"""What every pair of images can do: give the image in which some factors are the partner's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.errors import MethodError
from pipeline.interventions.shapley import MOST_FACTORS

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class Composition(ABC):
    """Two images and the factors that can be swapped between them, one at a time or together.

    Parameters
    ----------
    own, partner : ndarray of float32, shape (C, *spatial)
        On the model's grid.
    names : sequence of str
        At most six factors, in the order in which they are composed.

    Raises
    ------
    pipeline.errors.MethodError
        If the shapes differ or there are too many factors.
    """

    def __init__(self, own: Floats, partner: Floats, names: Sequence[str]) -> None:
        if own.shape != partner.shape:
            raise MethodError(
                f"images of shape {own.shape} and {partner.shape} cannot be composed",
                "bring both onto the model's grid",
            )
        if not 1 <= len(names) <= MOST_FACTORS:
            raise MethodError(f"{len(names)} factors", f"compose 1 to {MOST_FACTORS} at once")
        self.own, self.partner, self.names = own, partner, tuple(names)

    def image(self, coalition: int) -> Floats:
        """Return the image in which the factors whose bits are set are the partner's.

        Coalition 0 is the own image and the full one the partner, bit for bit: there `mixed`, which gives the
        same up to rounding, is not asked.
        """
        if coalition == 0:
            return self.own
        if coalition == (1 << len(self.names)) - 1:
            return self.partner
        return np.asarray(self.mixed(coalition), np.float32)

    @cached_property
    def moving(self) -> int:
        """Bits of the factors in which the two images differ at all; the others change no image."""
        return sum(1 << i for i, name in enumerate(self.names) if self.differs(name))

    @abstractmethod
    def mixed(self, coalition: int) -> Floats:
        """Compose, without the exact ends."""

    def differs(self, name: str) -> bool:  # noqa: ARG002
        """Whether swapping this factor alone can change the image."""
        return True

    def has(self, coalition: int, name: str) -> bool:
        """Whether the factor is the partner's in this coalition."""
        return name in self.names and bool(coalition >> self.names.index(name) & 1)


def soft_parts(parts: Mapping[str, Mask], sigma: Sequence[float] | float) -> dict[str, Floats]:
    """Weights of a partition with smooth seams: 0–1, summing to 1 everywhere.

    Parameters
    ----------
    parts : mapping of str to ndarray of bool, shape spatial
        Disjoint, together the whole grid.
    sigma : float or sequence of float
        Width of the seams in voxels.
    """
    soft = {
        name: ndimage.gaussian_filter(mask.astype(np.float32), sigma, truncate=2.5)
        for name, mask in parts.items()
    }
    total = np.maximum(sum(soft.values()), np.float32(1e-6))
    return {name: np.asarray(weight / total, np.float32) for name, weight in soft.items()}


def smooth_ratio(own: Floats, partner: Floats, tissue: Mask, degree: int = 4) -> Floats:
    """Low-frequency ratio of intensities, partner over own, where the two images show like tissue.

    A polynomial of the logarithm of the ratio, fitted to voxels in which both images are bright and which do
    not differ from the fit by more than a third: an anatomical difference (fluid here, tissue there) is no
    difference of illumination. A Gaussian instead would flatten what it fits: of a slope through the brain it
    finds 41 %.

    Parameters
    ----------
    own, partner : ndarray of float32, shape spatial
    tissue : ndarray of bool, shape spatial
        Where both may be compared.
    degree : int
        Total degree of the polynomial.

    Returns
    -------
    ndarray of float32, shape spatial
        1 everywhere if nothing can be compared.
    """
    use = tissue & (own > 0) & (partner > 0)
    if use.sum() < 200:
        return np.ones_like(own)
    places = np.argwhere(use)
    places = places[:: max(1, len(places) // 20_000)]
    at = tuple(places.T)
    logs = np.log(partner[at].astype(np.float64) / own[at])
    low, high = places.min(0), places.max(0)
    # beyond the tissue the field goes on as it is at its border
    axes = [
        np.clip(2 * (np.arange(n) - a) / max(b - a, 1) - 1, -1, 1)
        for n, a, b in zip(own.shape, low, high, strict=True)
    ]
    powers = [p for p in product(range(degree + 1), repeat=own.ndim) if sum(p) <= degree]
    curves = [np.polynomial.legendre.legvander(axis, degree) for axis in axes]
    columns = [np.prod([curves[d][places[:, d], p] for d, p in enumerate(power)], axis=0) for power in powers]
    basis = np.stack(columns, axis=1)
    near = np.abs(logs - np.median(logs)) < 0.5
    for _ in range(3):
        chosen = basis[near]  # Legendre columns: the normal equations are well conditioned, and much faster
        ridge = 1e-9 * len(chosen) * np.eye(len(powers))
        weights = np.linalg.solve(chosen.T @ chosen + ridge, chosen.T @ logs[near])
        near = np.abs(logs - basis @ weights) < 0.33
        if near.sum() < 10 * len(powers):
            return np.full_like(own, np.exp(np.median(logs)))
    cube = np.zeros((degree + 1,) * own.ndim)
    cube[tuple(np.array(powers).T)] = weights
    for curve in curves:  # each step contracts the first axis and appends the grid's
        cube = np.tensordot(cube, curve, axes=(0, 1))
    return np.asarray(np.exp(np.clip(cube, -2, 2)), np.float32)


def fine_scale(image: Floats, sigma: float) -> Floats:
    """Return what a Gaussian of `sigma` voxels takes away: noise and the sharpness of edges."""
    return image - ndimage.gaussian_filter(image, sigma, truncate=3)


def fine_level(fine: Floats, image: Floats, field: Mask) -> float:
    """Size of the finest scale in the half of the field where the image is flattest (noise, not edges)."""
    inside = ndimage.binary_erosion(field, iterations=2)
    if inside.sum() < 50:
        inside = field
    slope = ndimage.gaussian_gradient_magnitude(image, 2.0)
    flat = inside & (slope <= np.median(slope[inside]))
    return float(max(1.4826 * np.median(np.abs(fine[flat])), 1e-6))


GRAIN_REACH = 0.7
"""Voxels over which the power of the finest scale is averaged."""
DROWNED = 0.25
"""Share of the noise below which the power of edges is no longer told from it."""


@dataclass(frozen=True)
class Grain:
    """How noisy and how sharp an image is: the two parts of its finest scale.

    Attributes
    ----------
    noise : float
        Variance of the finest scale where the image is flat.
    edges : float
        What its power has beyond that where the image is steep.
    """

    noise: float
    edges: float

    @classmethod
    def of(cls, fine: Floats, image: Floats, field: Mask) -> Grain:
        """Measure it within a field."""
        inside = ndimage.binary_erosion(field, iterations=2)
        if inside.sum() < 50:
            inside = field
        slope = ndimage.gaussian_gradient_magnitude(image, 2.0)
        middle = np.median(slope[inside])
        noise = (1.4826 * float(np.median(np.abs(fine[inside & (slope <= middle)])))) ** 2
        steep = float((fine[inside & (slope > middle)] ** 2).mean())
        return cls(max(noise, 1e-12), max(steep - noise, 1e-12))

    def like(self, other: Grain) -> bool:
        """Whether two images are equally noisy and sharp."""
        return bool(np.allclose([self.noise, self.edges], [other.noise, other.edges], rtol=1e-6, atol=0))

    def become(self, other: Grain, fine: Floats) -> Floats:
        """Bring a finest scale of this grain to another, its noise to that noise and its edges to those.

        One gain for both would blur the edges of a noisy image together with its noise, and a model that
        reads edges would seem to read noise.
        """
        power = ndimage.gaussian_filter(fine**2, GRAIN_REACH, truncate=3) + np.float32(1e-12)
        noise = np.minimum(power, np.float32(4 * self.noise))  # power about its mean: noise still
        new = noise * np.float32(other.noise / self.noise)
        # edges that drown in the noise of either image are not known, and are left as they are
        known = max(self.noise, other.noise) * DROWNED
        new += (power - noise) * np.float32((other.edges + known) / (self.edges + known))
        return np.asarray(fine * np.sqrt(new / power), np.float32)

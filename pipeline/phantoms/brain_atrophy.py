"""What atrophy does to the template: tissue recedes, fluid fills the room, ventricles grow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pipeline.images.types import Affine, BoolArray, FloatArray, LabelArray

FLUID = np.float32(0.24)  # intensity of cerebrospinal fluid where white matter is 0.87
# Millimetres at severity 1, by tier: how far cortex thins, and hippocampus and amygdala shrink
_TIER_MM = ((2.4, 5.0), (1.1, 2.5))
_VENTRICLE_POINTS = ((-12, 10, 14), (12, 10, 14), (-26, -42, 8), (26, -42, 8))


@dataclass(frozen=True)
class AtrophyMaps:
    """How atrophy acts at every point of the template, at 1 mm.

    Attributes
    ----------
    region : ndarray of float32, shape (X, Y, Z)
        1 in the chosen regions, 0 outside, soft in between.
    recession : ndarray of float32, shape (X, Y, Z)
        Millimetres by which the nearest surface recedes at severity 1.
    depth : ndarray of float32, shape (X, Y, Z)
        Millimetres to that surface.
    outward : ndarray of float32, shape (3, X, Y, Z)
        Unit vector towards it.
    ventricle : ndarray of float32, shape (X, Y, Z)
        Signed millimetres to the ventricles' wall, negative inside.
    from_ventricle : ndarray of float32, shape (3, X, Y, Z)
        Unit vector away from the ventricles.
    affine : ndarray of float64, shape (4, 4)
    """

    region: FloatArray
    recession: FloatArray
    depth: FloatArray
    outward: FloatArray
    ventricle: FloatArray
    from_ventricle: FloatArray
    affine: Affine


def template_labels() -> LabelArray:
    """AAL on the template's 1 mm grid, shape (X, Y, Z)."""
    from atlases import load_atlas
    from pipeline.anatomy.brain_template import load_template

    template, atlas = load_template(), load_atlas("AAL")
    labels = np.zeros(template.t1.shape, np.int32)
    offset = np.rint(atlas.affine[:3, 3] - template.affine[:3, 3]).astype(int)  # both are 1 mm, RAS+
    start, stop = np.maximum(offset, 0), np.minimum(offset + atlas.labels.shape, labels.shape)
    into = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    taken = tuple(slice(a - o, b - o) for a, b, o in zip(start, stop, offset, strict=True))
    labels[into] = atlas.labels[taken]
    return labels


@lru_cache(maxsize=4)
def atrophy_maps(regions: tuple[str, ...] | None = None) -> AtrophyMaps:
    """Precompute the maps for a choice of regions.

    Parameters
    ----------
    regions : tuple of str, optional
        AAL region names, sides included, all receding like tier 1. By default the regions expected in
        Alzheimer's disease: tier 1 recedes most, tier 2 a little.

    Raises
    ------
    pipeline.errors.AnatomyError
        If a name is not one of AAL's.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    from pipeline.anatomy.brain_template import load_template

    amplitudes = _amplitudes(regions)
    template, labels = load_template(), template_labels()
    tissue = (template.grey + template.white > 0.5) & template.brain
    depth = np.asarray(distance_transform_edt(tissue), np.float32)
    outward = _unit(-_gradient(gaussian_filter(depth, 1.0)))
    recession = np.zeros(template.t1.shape, np.float32)
    chosen = np.zeros(template.t1.shape, np.float32)
    for members, thinning, shrinking in amplitudes:
        deep = np.isin(labels, list(set(members) & _horn_labels()))
        mask = np.isin(labels, members)
        recession[mask] = thinning
        recession[deep] = shrinking
        chosen[mask] = 1
        _shrink_from_horn(deep, depth, outward, template.affine)
    soft = gaussian_filter(chosen, 0.8)
    inside = np.maximum(soft, 1e-3)
    wall = _ventricle_wall(template.brain & ~tissue, template.affine)
    return AtrophyMaps(
        region=soft,
        recession=np.asarray(gaussian_filter(recession, 0.8) / inside, np.float32),
        depth=np.asarray(gaussian_filter(depth * chosen, 0.8) / inside, np.float32),
        outward=outward,
        ventricle=wall,
        from_ventricle=_unit(_gradient(wall)),
        affine=template.affine,
    )


def _shrink_from_horn(mask: BoolArray, depth: FloatArray, outward: FloatArray, affine: Affine) -> None:
    """Measure hippocampus and amygdala from the side of the temporal horn: above and lateral.

    There the fluid gathers in disease; a shell of fluid all around would look like no brain.
    """
    x = np.arange(mask.shape[0]) + affine[0, 3]
    for sign, half in ((-1, x < 0), (1, x >= 0)):
        part = mask & half[:, None, None]
        direction = np.array([0.62 * sign, 0.0, 0.78])
        here = np.argwhere(part)
        exit_mm = np.zeros(len(here), np.float32)
        still = np.ones(len(here), bool)
        for step in range(1, 25):
            ahead = np.rint(here + 0.5 * step * direction).astype(int)
            still &= part[tuple(ahead.T)]
            exit_mm += 0.5 * still
        x_, y_, z_ = here.T
        depth[x_, y_, z_] = exit_mm + 0.25
        outward[:, x_, y_, z_] = direction[:, None]


def _ventricle_wall(fluid: BoolArray, affine: Affine) -> FloatArray:
    """Signed distance to the lateral ventricles, found from a point in each body and atrium."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter, label

    low = np.rint(np.array([-38, -52, -2]) - affine[:3, 3]).astype(int)
    high = np.rint(np.array([38, 38, 34]) - affine[:3, 3]).astype(int)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    blobs, _ = label(fluid[box])
    seeds = {int(blobs[tuple(np.rint(p - affine[:3, 3] - low).astype(int))]) for p in _VENTRICLE_POINTS} - {0}
    ventricles = np.zeros(fluid.shape, bool)
    ventricles[box] = np.isin(blobs, list(seeds))
    wall = distance_transform_edt(~ventricles) - distance_transform_edt(ventricles)
    return gaussian_filter(wall.astype(np.float32), 1.0)


def _gradient(image: FloatArray) -> FloatArray:
    """Gradient, shape (3, X, Y, Z)."""
    parts = [np.gradient(image, axis=axis) for axis in range(image.ndim)]
    return np.asarray(np.stack(parts), np.float32)


def _unit(field: FloatArray) -> FloatArray:
    length = np.linalg.norm(field, axis=0, keepdims=True)
    return np.asarray(field / np.maximum(length, 1e-3), np.float32)


def _amplitudes(regions: tuple[str, ...] | None) -> list[tuple[tuple[int, ...], float, float]]:
    from atlases import expected_regions, load_atlas
    from pipeline.errors import AnatomyError

    table = load_atlas("AAL").table
    if regions is None:
        expected = expected_regions("alzheimer", table)
        return [(expected.labels(tier), *_TIER_MM[tier - 1]) for tier in (2, 1)]
    index = {name: label for label, name in table.items()}
    unknown = [name for name in regions if name not in index]
    if unknown:
        raise AnatomyError(f"AAL has no region {unknown[0]!r}", "use its own names, such as Hippocampus_L")
    return [(tuple(index[name] for name in regions), *_TIER_MM[0])]


def _horn_labels() -> set[int]:
    from atlases import load_atlas
    from atlases.atlas import split_side

    table = load_atlas("AAL").table
    return {label for label, name in table.items() if split_side(name)[0] in {"Hippocampus", "Amygdala"}}


def displaced(
    points: npt.NDArray[np.float64],
    maps: AtrophyMaps,
    severity: float,
    sides: tuple[float, float],
    ventricle_mm: float,
) -> tuple[npt.NDArray[np.float64], FloatArray]:
    """Where each point of a shrunken brain is taken from, and how much of it is fluid now.

    Parameters
    ----------
    points : ndarray of float64, shape (3, N)
        Template voxel indices at 1 mm.
    maps : AtrophyMaps
    severity : float
        0 to 1.
    sides : (float, float)
        Factors of the left and the right hemisphere, about 1.
    ventricle_mm : float
        Outward shift of the ventricles' wall.

    Returns
    -------
    source : ndarray of float64, shape (3, N)
        Template voxel indices to sample.
    fluid : ndarray of float32, shape (N,)
        0 where tissue stays, 1 where fluid fills in.
    """
    source = points.copy()
    fluid = np.zeros(points.shape[1], np.float32)
    if ventricle_mm:
        wall = sample(maps.ventricle, points)
        near = np.flatnonzero(wall < 20)
        reach = ventricle_mm * np.exp(-np.abs(wall[near]) / 6)
        source[:, near] -= reach * sample_vectors(maps.from_ventricle, points[:, near])
    if severity:
        soft = sample(maps.region, points)
        near = np.flatnonzero(soft > 0.02)
        at, soft = points[:, near], soft[near]
        side = np.where(at[0] + maps.affine[0, 3] < 0, sides[0], sides[1])
        shift = severity * side * sample(maps.recession, at)
        depth = sample(maps.depth, at)
        fluid[near] = soft * np.clip((shift - depth) / 1.5 + 0.5, 0, 1) * np.clip(shift, 0, 1)
        source[:, near] += soft * shift * np.exp(-depth / 4) * sample_vectors(maps.outward, at)
    return source, fluid


def sample(image: FloatArray, points: npt.NDArray[np.float64], outside: float = 0) -> FloatArray:
    """Sample an image linearly at voxel indices `points` [3, N]."""
    from scipy.ndimage import map_coordinates

    return np.asarray(map_coordinates(image, points, order=1, mode="constant", cval=outside), np.float32)


def sample_labels(labels: LabelArray, points: npt.NDArray[np.float64]) -> LabelArray:
    """Sample labels at the nearest voxel of `points` [3, N]; 0 outside."""
    from scipy.ndimage import map_coordinates

    return np.asarray(map_coordinates(labels, points, order=0, mode="constant", cval=0), np.int32)


def sample_vectors(field: FloatArray, points: npt.NDArray[np.float64]) -> FloatArray:
    """Sample a vector field [3, X, Y, Z] at voxel indices `points` [3, N]."""
    return np.stack([sample(component, points) for component in field])

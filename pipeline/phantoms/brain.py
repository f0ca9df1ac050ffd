"""Brain phantoms: MNI152 brains with atrophy of known place and severity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pipeline.errors import AuditError
from pipeline.images.types import Affine, BoolArray, FloatArray, LabelArray, Volume
from pipeline.phantoms.brain_atrophy import (
    FLUID,
    AtrophyMaps,
    atrophy_maps,
    displaced,
    sample,
    sample_labels,
    template_labels,
)
from pipeline.phantoms.brain_scanner import SITES, Faults, scan

_EXTENT_MM = (180, 216, 180)
_ORIGIN_MM = (-90.0, -126.0, -72.0)


@dataclass(frozen=True)
class BrainPhantom:
    """A skull-stripped T1 brain in MNI space, and the truth about it.

    Attributes
    ----------
    volume : Volume
        Scanner units, zero outside the brain (plus whatever a planted fault puts there).
    masks : mapping of str to ndarray of bool, shape (X, Y, Z)
        `"atrophy"`: the voxels that atrophy changed by more than 2 % of white matter, computed without
        bias and noise; `"atrophy_<region>"`: its part in each AAL region; `"brain"`; and, where planted,
        `"marker"` and `"rim"`.
    labels : ndarray of int32, shape (X, Y, Z)
        AAL, deformed with the brain; the regions as they were before atrophy, so that lost tissue still
        belongs to its region.
    severity : float
    age : float
        Years.
    sex : {"F", "M"}
    site : str
    seed : int
    """

    volume: Volume
    masks: Mapping[str, BoolArray]
    labels: LabelArray
    severity: float
    age: float
    sex: str
    site: str
    seed: int


@dataclass(frozen=True)
class _Person:
    """What a seed decides, drawn before and independently of severity."""

    age: float
    sex: str
    site: str
    matrix: npt.NDArray[np.float64]
    waves: FloatArray
    sides: tuple[float, float]
    ventricle_mm: float
    grey_shift: float
    rim_mm: float
    scanner_seed: int


def brain_phantom(
    seed: int,
    severity: float,
    spacing_mm: float = 2.0,
    regions: tuple[str, ...] | None = None,
    site: str | None = None,
    *,
    age: float | None = None,
    marker: float = 0.0,
    rim_mm: float = 0.0,
    site_field: float = 0.0,
    noise: float = 0.02,
) -> BrainPhantom:
    """Draw a brain.

    The same seed with another severity is the same brain, scanned alike, but for the atrophy.

    Parameters
    ----------
    seed : int
        Decides shape, age, sex, site (unless given), bias field and noise.
    severity : float
        0 (none) to 1 (hippocampi about halved).
    spacing_mm : float, default 2
        Voxel size.
    regions : tuple of str, optional
        AAL names of the regions that shrink; by default those expected in Alzheimer's disease.
    site : {"A", "B", "C"}, optional
        Scanner: gain, bias and noise differ a little.
    age : float, optional
        Years; ventricles are larger in the old whatever the severity.
    marker : float, default 0
        Planted fault: brightness of a block outside the brain, in units of white matter.
    rim_mm : float, default 0
        Planted fault: the skull strip leaves a rim of that thickness, or cuts into the brain if negative.
    site_field : float, default 0
        Planted fault: amplitude of a low-frequency intensity pattern, as a fraction.
    noise : float, default 0.02
        Standard deviation of the Rician noise as a fraction of white matter.

    Returns
    -------
    BrainPhantom

    Raises
    ------
    pipeline.errors.AuditError
        For a severity outside 0–1, an unknown site or an impossible spacing.
    pipeline.errors.AnatomyError
        For a region that AAL does not have.
    """
    if not 0 <= severity <= 1:
        raise AuditError(f"severity {severity} is outside 0–1", "choose one within")
    if not 0.5 <= spacing_mm <= 6:
        raise AuditError(f"spacing {spacing_mm} mm is outside 0.5–6 mm", "choose one within")
    if site is not None and site not in SITES:
        raise AuditError(f"unknown site {site!r}", f"use one of {', '.join(SITES)}")
    person = _person(seed, age, site)
    maps = atrophy_maps(None if regions is None else tuple(regions))
    anatomy = _anatomy()
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = _ORIGIN_MM
    shape = tuple(int(extent // spacing_mm) + 1 for extent in _EXTENT_MM)

    points = _template_points(shape, affine, person, anatomy)
    surface = sample(anatomy.surface, points, outside=50).reshape(shape)  # mm outside the brain
    edge_mm = person.rim_mm + rim_mm
    brain = surface < min(edge_mm, 0)
    inside = points[:, brain.ravel()]
    healthy = _clean(inside, maps, person, 0.0)
    shrunken = _clean(inside, maps, person, severity) if severity else healthy

    image = np.zeros(shape, np.float32)
    image[brain] = shrunken
    atrophy = np.zeros(shape, bool)
    atrophy[brain] = np.abs(shrunken - healthy) > 0.02 * 0.87
    labels = np.zeros(shape, np.int32)
    labels[brain] = sample_labels(anatomy.labels, inside)
    masks: dict[str, BoolArray] = {"brain": brain, "atrophy": atrophy}
    for index in np.unique(labels[atrophy]):
        if index:
            masks[f"atrophy_{anatomy.table[int(index)]}"] = atrophy & (labels == index)

    faults = Faults(
        marker=marker, rim=(surface >= 0) & (surface < edge_mm), site_field=site_field, noise=noise
    )
    data, planted = scan(image, affine, faults, person.site, person.scanner_seed)
    return BrainPhantom(
        volume=Volume(data, affine, name=f"phantom-{seed}"),
        masks=masks | planted,
        labels=labels,
        severity=severity,
        age=person.age,
        sex=person.sex,
        site=person.site,
        seed=seed,
    )


@dataclass(frozen=True)
class _Anatomy:
    t1: FloatArray
    grey: FloatArray
    surface: FloatArray
    labels: LabelArray
    table: Mapping[int, str]
    affine: Affine


@lru_cache(maxsize=1)
def _anatomy() -> _Anatomy:
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    from atlases import load_atlas
    from pipeline.anatomy.brain_template import load_template

    template = load_template()
    # continue the intensities outwards, so that the skull strip's edge is set by `surface` alone
    outside, nearest = distance_transform_edt(~template.brain, return_indices=True)
    t1 = template.t1[tuple(nearest)]
    surface = outside - distance_transform_edt(template.brain)
    surface = gaussian_filter(surface.astype(np.float32), 1.0)
    return _Anatomy(
        t1=np.ascontiguousarray(t1),
        grey=template.grey,
        surface=surface,
        labels=template_labels(),
        table=load_atlas("AAL").table,
        affine=template.affine,
    )


def _person(seed: int, age: float | None, site: str | None) -> _Person:
    rng = np.random.default_rng([seed, 0xB4A1])
    drawn_age, drawn_sex, drawn_site = rng.normal(72, 7), rng.random() < 0.5, rng.integers(len(SITES))
    years = float(np.clip(drawn_age if age is None else age, 20, 100))
    sex = "M" if drawn_sex else "F"
    scale = rng.normal(1.01 if sex == "M" else 0.98, 0.015) + rng.normal(0, 0.015, 3)
    tilt = np.deg2rad(rng.normal(0, 1.5, 3))
    turn = np.array([[1, -tilt[2], tilt[1]], [tilt[2], 1, -tilt[0]], [-tilt[1], tilt[0], 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = np.linalg.inv(turn @ np.diag(scale))
    matrix[:3, 3] = rng.normal(0, 1.2, 3)
    left, right = rng.normal(1, 0.06, 2)
    ventricle = max(0.0, 0.06 * (years - 62) + rng.normal(0.6, 0.5))
    return _Person(
        age=years,
        sex=sex,
        site=site or list(SITES)[drawn_site],
        matrix=matrix,
        waves=_smooth_noise(rng),
        sides=(float(left), float(right)),
        ventricle_mm=float(ventricle),
        grey_shift=float(rng.normal(0, 0.015)),
        rim_mm=float(np.clip(rng.normal(-0.3, 0.3), -1.0, 0)),
        scanner_seed=int(rng.integers(2**31)),
    )


def _smooth_noise(rng: np.random.Generator) -> FloatArray:
    """Displacements of 2 mm standard deviation on a 12 mm lattice, smooth over about 20 mm."""
    from scipy.ndimage import gaussian_filter

    lattice = tuple(extent // 12 + 5 for extent in _EXTENT_MM)
    waves = np.stack([gaussian_filter(rng.standard_normal(lattice), 1.3) for _ in range(3)])
    return np.asarray(2.0 * waves / waves.std(), np.float32)


def _template_points(
    shape: tuple[int, ...], affine: Affine, person: _Person, anatomy: _Anatomy
) -> npt.NDArray[np.float64]:
    """Template voxel index that each voxel of the phantom shows, before atrophy; shape (3, N)."""
    axes = [np.arange(n) * affine[i, i] + affine[i, 3] for i, n in enumerate(shape)]
    world = np.stack(np.meshgrid(*axes, indexing="ij")).reshape(3, -1)
    moved = person.matrix[:3, :3] @ world + person.matrix[:3, 3:]
    basis = [
        _spline_basis((axis - origin) / 12 + 2, n)
        for axis, origin, n in zip(axes, _ORIGIN_MM, person.waves.shape[1:], strict=True)
    ]
    moved += np.einsum("dabc,xa,yb,zc->dxyz", person.waves, *basis, optimize=True).reshape(3, -1)
    return np.asarray(moved - anatomy.affine[:3, 3:])


def _spline_basis(position: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
    """Quadratic B-spline weights of `size` lattice points at each position, shape (positions, size)."""
    distance = np.abs(position[:, None] - np.arange(size))
    inner, outer = 0.75 - distance**2, 0.5 * np.maximum(1.5 - distance, 0) ** 2
    return np.asarray(np.where(distance < 0.5, inner, outer))


def _clean(
    points: npt.NDArray[np.float64], maps: AtrophyMaps, person: _Person, severity: float
) -> FloatArray:
    """T1 intensity at template points without bias and noise; white matter about 0.87; shape (N,)."""
    anatomy = _anatomy()
    growth = person.ventricle_mm + 0.5 * severity
    source, fluid = displaced(points, maps, severity, person.sides, growth)
    tissue = sample(anatomy.t1, source) + person.grey_shift * sample(anatomy.grey, source)
    return np.asarray(tissue + fluid * (np.minimum(FLUID, tissue) - tissue), np.float32)

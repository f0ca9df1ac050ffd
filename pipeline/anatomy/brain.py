"""Atlas regions of a brain MRI, on its own grid, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline.anatomy.brain_mask import brain_mask
from pipeline.anatomy.brain_quality import Quality, judge
from pipeline.anatomy.brain_registration import Registration, identity, voxel_points
from pipeline.anatomy.brain_registration import register as register_brain
from pipeline.anatomy.brain_template import load_template
from pipeline.anatomy.brain_working import working_image
from pipeline.errors import AnatomyError
from pipeline.images.types import Affine, BoolArray, LabelArray, Volume

if TYPE_CHECKING:
    from pathlib import Path

    from atlases import Atlas
    from atlases.own import Segmentation

How = Literal["template space", "registration", "segmentation", "landmarks"]
MIN_DICE = 0.85  # brain overlap and correlation with the template above which an image lies in its space
MIN_IN_PLACE = 0.55


@dataclass(frozen=True)
class Regions:
    """Where the regions of an atlas lie in one image.

    Attributes
    ----------
    labels : ndarray of int32, shape of the image
        0 is no region; all 0 when not registered.
    table : mapping of int to str
        Label to region name, ascending; empty when not registered.
    dice : float
        Overlap of the image's brain with the template's where the regions lie, 0–1.
    registered : bool
        Whether the regions may be used.
    reason : str
        Why not, in one sentence; empty when registered.
    how : {"template space", "registration", "segmentation", "landmarks"}
    quality : Quality or None
        What the gate judged, where a registration was made.
    notes : tuple of str
        What a reader should know of them.
    correlation : float or None
        With the template, as the image lies; None where that was not asked.
    refused : ndarray of int32, shape of the image, or None
        Labels that the gate refused: for a picture, never for a number.
    """

    labels: LabelArray
    table: Mapping[int, str]
    dice: float
    registered: bool
    reason: str
    how: How = "template space"
    quality: Quality | None = None
    notes: tuple[str, ...] = ()
    correlation: float | None = None
    refused: LabelArray | None = None


def regions_of(
    volume: Volume, atlas: Atlas, *, register: bool = True, cache: Path | None = None, threads: int = 2
) -> Regions:
    """Carry an atlas to an image.

    An image that already lies in template space (its brain overlaps the template's and correlates with it)
    is taken as it is; any other is registered, and the registration judged. Labels are carried with nearest
    neighbour, in any orientation of the stored axes. A region thinner than the voxels, which nearest
    neighbour would lose, keeps the voxel that is nearest to its middle.

    Parameters
    ----------
    volume : Volume
    atlas : Atlas
    register : bool, default True
        Whether to register an image that does not lie in template space.
    cache : Path, optional
        Folder in which registrations are kept by the hash of the image.
    threads : int, default 2

    Returns
    -------
    Regions
        Not registered, with the reason, when the gate of `pipeline.anatomy.brain_quality` refuses it, or
        more than half of a region lies outside the image.

    Raises
    ------
    pipeline.errors.AnatomyError
        If no brain can be found, or if a label is not in the atlas's table.
    """
    dice = template_dice(volume, brain_mask(volume))
    alike = in_place_correlation(volume)
    if dice >= MIN_DICE and alike >= MIN_IN_PLACE:
        return _regions_in_place(volume, atlas, dice, alike)
    if not register:
        return _unregistered(
            volume, dice, f"its brain overlaps the template's by {dice:.2f} Dice: not in template space"
        )
    from pipeline.anatomy.registration_cache import cached

    registration = cached(volume, lambda: register_brain(volume, threads=threads), cache)
    return regions_by(volume, atlas, registration)


def _regions_in_place(volume: Volume, atlas: Atlas, dice: float, correlation: float) -> Regions:
    """Carry an atlas to an image that lies in template space."""
    labels = carry_labels(atlas.labels, atlas.affine, volume)
    lost = _lost_regions(atlas, volume)
    if lost:
        listed = ", ".join(lost[:6]) + (" …" if len(lost) > 6 else "")
        reason = f"{len(lost)} regions of {atlas.name} lie outside it ({listed})"
        return replace(_unregistered(volume, dice, reason), correlation=correlation, refused=labels)
    _restore_thin(labels, atlas, volume, identity())
    _refuse_invented(labels, atlas, volume)
    table = dict(atlas.table)
    return Regions(labels, table, dice, registered=True, reason="", correlation=correlation)


def regions_by(volume: Volume, atlas: Atlas, registration: Registration) -> Regions:
    """Carry an atlas through a registration, and judge both.

    Parameters
    ----------
    volume : Volume
    atlas : Atlas
    registration : Registration
        Of this volume to the template.
    """
    labels = warp_labels(atlas, volume, registration)
    _refuse_invented(labels, atlas, volume)
    lost = tuple(_lost_by_volume(labels, atlas, volume, registration))
    quality = judge(working_image(volume, 2.0), registration, lost)
    if quality.reasons:
        out = _unregistered(volume, quality.brain, "; ".join(quality.reasons))
        return replace(out, how="registration", quality=quality, refused=labels)
    _restore_thin(labels, atlas, volume, registration)
    return Regions(
        labels,
        dict(atlas.table),
        quality.brain,
        registered=True,
        reason="",
        how="registration",
        quality=quality,
    )


def regions_from(volume: Volume, segmentation: Segmentation) -> Regions:
    """Take a patient's own segmentation (FreeSurfer, FastSurfer, SynthSeg) instead of an atlas.

    Parameters
    ----------
    volume : Volume
    segmentation : atlases.own.Segmentation
        In the patient's own world space; its grid may be another.

    Returns
    -------
    Regions
        Not registered when less than half of what it labels lies in the image's brain: it is another's then,
        or another space's.
    """
    labels = carry_labels(segmentation.labels, segmentation.affine, volume)
    brain = brain_mask(volume)
    voxel = abs(np.linalg.det(volume.affine[:3, :3]) / np.linalg.det(segmentation.affine[:3, :3]))
    whole = float((segmentation.labels > 0).sum()) / voxel
    inside = float((brain & (labels > 0)).sum()) / max(whole, 1.0)
    if inside < 0.5:
        reason = f"only {inside:.0%} of its own segmentation lies in its brain"
        return replace(_unregistered(volume, inside, reason), how="segmentation", refused=labels)
    dice = 2 * float((brain & (labels > 0)).sum()) / float(brain.sum() + (labels > 0).sum())
    present = set(np.unique(labels).tolist())
    table = {index: name for index, name in segmentation.table.items() if index in present}
    return Regions(labels, table, dice, registered=True, reason="", how="segmentation")


def in_template_space(volume: Volume, registration: Registration) -> Volume:
    """Return the same voxels with an affine that leads to the template: linear normalisation.

    A model that expects MNI space can be given this volume; the deformation is left out, so that no atrophy
    is smoothed away.
    """
    affine = registration.template_from_image @ volume.affine
    return Volume(volume.data, affine, volume.name)


def in_place_correlation(volume: Volume) -> float:
    """Correlation of an image with the template where both have brain, as it lies, at 4 mm."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    template = load_template()
    grid = template.affine @ np.diag([4.0, 4.0, 4.0, 1.0])
    shape = tuple(n // 4 for n in template.t1.shape)
    points = voxel_points(shape, grid)
    blurred = gaussian_filter(np.nan_to_num(volume.data), [1.7 / step for step in volume.spacing])
    inverse = np.linalg.inv(volume.affine)
    here = map_coordinates(blurred, inverse[:3, :3] @ points + inverse[:3, 3:], order=1)
    inner = tuple(slice(0, 4 * n, 4) for n in shape)
    there = gaussian_filter(template.t1, 1.7)[inner].ravel()
    both = template.brain[inner].ravel() & (here > 0.02 * here.max())
    if both.sum() < 100 or here[both].std() == 0:
        return 0.0
    return float(np.corrcoef(here[both], there[both])[0, 1])


def _refuse_invented(labels: LabelArray, atlas: Atlas, volume: Volume) -> None:
    invented = sorted(set(np.unique(labels).tolist()) - {0} - set(atlas.table))
    if invented:
        raise AnatomyError(
            f"{volume.name or 'image'}: labels {invented[:6]} are not in the table of {atlas.name}",
            "load the atlas with `load_atlas`, which checks it",
        )


def _unregistered(volume: Volume, dice: float, reason: str) -> Regions:
    return Regions(np.zeros(volume.shape, np.int32), {}, dice, registered=False, reason=reason)


def template_dice(volume: Volume, brain: BoolArray) -> float:
    """Dice overlap of a brain mask with the template's brain, in world space.

    Template brain outside the image counts against the overlap, so that a crop is not a whole brain.

    Parameters
    ----------
    volume : Volume
    brain : ndarray of bool, shape of the volume
    """
    template = load_template()
    there = carry_labels(template.brain.astype(np.int32), template.affine, volume) > 0
    voxel = abs(float(np.linalg.det(volume.affine[:3, :3])))
    whole = float(template.brain.sum())  # mm³: the template has 1 mm voxels
    return float(2 * (brain & there).sum() * voxel / (brain.sum() * voxel + whole))


def carry_labels(labels: LabelArray, affine: Affine, volume: Volume) -> LabelArray:
    """Sample labels at the voxel centres of an image with nearest neighbour; 0 outside.

    Parameters
    ----------
    labels : ndarray of int32, shape (A, B, C)
    affine : ndarray of float64, shape (4, 4)
        Of the labels.
    volume : Volume
        Gives shape and affine.
    """
    from scipy.ndimage import affine_transform

    step = np.linalg.inv(affine) @ volume.affine
    out = affine_transform(labels, step[:3, :3], step[:3, 3], output_shape=volume.shape, order=0)
    return np.asarray(out, np.int32)


def warp_labels(atlas: Atlas, volume: Volume, registration: Registration) -> LabelArray:
    """Sample an atlas at the voxels of an image through a registration, slab by slab; 0 outside."""
    from scipy.ndimage import map_coordinates

    inverse = np.linalg.inv(atlas.affine)
    out = np.zeros(volume.shape, np.int32)
    slab = max(1, 2_000_000 // (volume.shape[1] * volume.shape[2]))
    for start in range(0, volume.shape[0], slab):
        stop = min(start + slab, volume.shape[0])
        moved = volume.affine.copy()
        moved[:3, 3] += volume.affine[:3, 0] * start
        part = (stop - start, *volume.shape[1:])
        at = registration.to_template(voxel_points(part, moved))
        at = inverse[:3, :3] @ at + inverse[:3, 3:]
        out[start:stop] = map_coordinates(atlas.labels, at, order=0).reshape(part)
    return out


def _lost_by_volume(
    labels: LabelArray, atlas: Atlas, volume: Volume, registration: Registration
) -> list[str]:
    """Names of the regions of 1 ml or more that came out with less than a fifth of their size."""
    top = max(atlas.table) + 1
    voxel = abs(float(np.linalg.det(volume.affine[:3, :3])))
    scale = abs(float(np.linalg.det(registration.template_from_image[:3, :3])))
    whole = np.bincount(atlas.labels.ravel(), minlength=top) * abs(float(np.linalg.det(atlas.affine[:3, :3])))
    seen = np.bincount(labels.ravel(), minlength=top) * voxel * scale
    return [
        name
        for label, name in atlas.table.items()
        if whole[label] >= 1000 and seen[label] < 0.2 * whole[label]
    ]


def _lost_regions(atlas: Atlas, volume: Volume) -> list[str]:
    """Names of the regions of which less than half lies inside the image."""
    here = np.argwhere(atlas.labels > 0)
    step = np.linalg.inv(volume.affine) @ atlas.affine
    at = here @ step[:3, :3].T + step[:3, 3]
    inside = ((at > -0.5) & (at < np.array(volume.shape) - 0.5)).all(1)
    labels = atlas.labels[tuple(here.T)]
    whole, seen = np.bincount(labels), np.bincount(labels, inside)
    return [name for label, name in atlas.table.items() if seen[label] < 0.5 * whole[label]]


def _restore_thin(labels: LabelArray, atlas: Atlas, volume: Volume, registration: Registration) -> None:
    """Give each region that no voxel centre hit the voxel nearest to its middle (by the affine)."""
    present = set(np.unique(labels).tolist())
    for label in set(atlas.table) - present:
        here = np.argwhere(atlas.labels == label)
        middle = here[np.abs(here - here.mean(0)).sum(1).argmin()]
        leads = registration.template_from_image @ volume.affine
        at = np.linalg.solve(leads, atlas.affine @ np.append(middle, 1.0))[:3]
        x, y, z = np.clip(np.rint(at), 0, np.array(volume.shape) - 1).astype(int)
        labels[x, y, z] = label

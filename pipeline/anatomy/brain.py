"""Atlas regions of a brain MRI, on its own grid, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.anatomy.brain_mask import brain_mask
from pipeline.anatomy.brain_template import load_template
from pipeline.errors import AnatomyError
from pipeline.images.types import Affine, BoolArray, LabelArray, Volume

if TYPE_CHECKING:
    from atlases import Atlas

MIN_DICE = 0.85  # overlap of the patient's brain with the template's below which no region is trusted


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
        Overlap of the image's brain with the template's, 0–1.
    registered : bool
        Whether the regions may be used.
    reason : str
        Why not, in one sentence; empty when registered.
    """

    labels: LabelArray
    table: Mapping[int, str]
    dice: float
    registered: bool
    reason: str


def regions_of(volume: Volume, atlas: Atlas) -> Regions:
    """Carry an atlas to an image that lies in template space.

    Labels are carried with nearest neighbour through the affines, so that any orientation of the stored
    axes gives the same regions. A region thinner than the image's voxels, which nearest neighbour would
    lose, keeps the voxel that is nearest to its middle.

    Parameters
    ----------
    volume : Volume
    atlas : Atlas

    Returns
    -------
    Regions
        Not registered, with the reason, when the brain overlaps the template's by less than `MIN_DICE` or
        more than half of a region lies outside the image.

    Raises
    ------
    pipeline.errors.AnatomyError
        If no brain can be found, or if a label is not in the atlas's table.
    """
    dice = template_dice(volume, brain_mask(volume))
    if dice < MIN_DICE:
        return _unregistered(
            volume, dice, f"its brain overlaps the template's by {dice:.2f} Dice, below {MIN_DICE}"
        )
    lost = _lost_regions(atlas, volume)
    if lost:
        listed = ", ".join(lost[:6]) + (" …" if len(lost) > 6 else "")
        return _unregistered(volume, dice, f"{len(lost)} regions of {atlas.name} lie outside it ({listed})")
    labels = carry_labels(atlas.labels, atlas.affine, volume)
    _restore_thin(labels, atlas, volume)
    invented = sorted(set(np.unique(labels).tolist()) - {0} - set(atlas.table))
    if invented:
        raise AnatomyError(
            f"{volume.name or 'image'}: labels {invented[:6]} are not in the table of {atlas.name}",
            "load the atlas with `load_atlas`, which checks it",
        )
    return Regions(labels=labels, table=dict(atlas.table), dice=dice, registered=True, reason="")


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


def _lost_regions(atlas: Atlas, volume: Volume) -> list[str]:
    """Names of the regions of which less than half lies inside the image."""
    here = np.argwhere(atlas.labels > 0)
    step = np.linalg.inv(volume.affine) @ atlas.affine
    at = here @ step[:3, :3].T + step[:3, 3]
    inside = ((at > -0.5) & (at < np.array(volume.shape) - 0.5)).all(1)
    labels = atlas.labels[tuple(here.T)]
    whole, seen = np.bincount(labels), np.bincount(labels, inside)
    return [name for label, name in atlas.table.items() if seen[label] < 0.5 * whole[label]]


def _restore_thin(labels: LabelArray, atlas: Atlas, volume: Volume) -> None:
    """Give each region that no voxel centre hit the voxel nearest to its middle."""
    present = set(np.unique(labels).tolist())
    for label in set(atlas.table) - present:
        here = np.argwhere(atlas.labels == label)
        middle = here[np.abs(here - here.mean(0)).sum(1).argmin()]
        at = np.linalg.solve(volume.affine, atlas.affine @ np.append(middle, 1.0))[:3]
        x, y, z = np.clip(np.rint(at), 0, np.array(volume.shape) - 1).astype(int)
        labels[x, y, z] = label

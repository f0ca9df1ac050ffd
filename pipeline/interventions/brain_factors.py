"""Factors of a brain MRI that can be swapped between two registered cases."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.interventions.composition import (
    Composition,
    Floats,
    Mask,
    fine_level,
    fine_scale,
    smooth_ratio,
    soft_parts,
)

FACTORS = ("target", "rest", "rim", "outside", "low_frequency", "noise")
TARGET_MM = 5.0
"""How far the target reaches beyond the expected regions: plain atlas labels cut off what atrophy moves."""
RIM_MM = 4.0
"""The rim is what lies within this distance of either brain's surface, on both sides of it."""
SEAM_MM = 2.0
FINE_VOXELS = 0.8


@dataclass(frozen=True)
class BrainImage:
    """One brain on the model's grid.

    Attributes
    ----------
    image : ndarray of float32, shape (X, Y, Z)
    field : ndarray of bool, shape (X, Y, Z)
        The brain.
    """

    image: Floats
    field: Mask


def brain_parts(
    labels: npt.NDArray[np.integer[npt.NBitBase]] | npt.NDArray[np.int32],
    expected: Collection[int],
    own: Mask,
    partner: Mask,
    spacing: npt.NDArray[np.float64],
) -> dict[str, Mask]:
    """Cut the grid into target, rest of the brain, rim and outside.

    Parameters
    ----------
    labels : ndarray of int, shape (X, Y, Z)
        Atlas labels in template space.
    expected : collection of int
        Labels of the regions expected for the disease.
    own, partner : ndarray of bool, shape (X, Y, Z)
        The two brains.
    spacing : ndarray, shape (3,)
        Voxel size in millimetres.

    Returns
    -------
    dict of str to ndarray of bool
        Disjoint; together the whole grid. The target goes before the rim.
    """
    either, both = own | partner, own & partner
    regions = np.isin(labels, list(expected))
    target = (ndimage.distance_transform_edt(~regions, sampling=spacing) <= TARGET_MM) & either
    beyond = ndimage.distance_transform_edt(~either, sampling=spacing) > RIM_MM
    inside = ndimage.distance_transform_edt(both, sampling=spacing) > RIM_MM
    return {
        "target": target,
        "rest": inside & ~target,
        "rim": ~beyond & ~inside & ~target,
        "outside": beyond,
    }


class BrainPair(Composition):
    """A brain and its partner of the other class.

    Composed in a fixed order: the partner is brought to the own image's style (its low-frequency intensity
    divided out, the size of its finest scale equalled); target, rest, rim and outside are taken from either
    with smooth seams; then the partner's noise level and last its low-frequency intensity are put on, if
    they are members. Style is a ratio of the two images, so that anatomy cannot pass for it.

    Parameters
    ----------
    own, partner : BrainImage
    parts : dict of str to ndarray of bool
        Of `brain_parts`.
    spacing : ndarray, shape (3,)
        In millimetres.
    """

    def __init__(
        self, own: BrainImage, partner: BrainImage, parts: dict[str, Mask], spacing: npt.NDArray[np.float64]
    ) -> None:
        super().__init__(own.image[None], partner.image[None], FACTORS)
        self._weights = soft_parts(parts, tuple(SEAM_MM / spacing))
        # no seam of the outside reaches into a brain: clean backgrounds are then alike, and cost nothing
        self._weights["outside"] *= ~(own.field | partner.field)
        total = sum(self._weights.values())
        self._weights = {name: np.asarray(w / total, np.float32) for name, w in self._weights.items()}
        tissue = own.field & partner.field
        for image in (own.image, partner.image):
            tissue &= image > 0.5 * float(np.median(image[own.field & partner.field]))
        self._ratio = smooth_ratio(own.image, partner.image, tissue)
        alike = partner.image / self._ratio
        fine = [fine_scale(i, FINE_VOXELS) for i in (own.image, alike)]
        level = [
            fine_level(f, i, field & ~parts["target"])  # atrophy makes edges, and must not pass for noise
            for f, i, field in zip(fine, (own.image, alike), (own.field, partner.field), strict=True)
        ]
        self._gain = level[1] / level[0]
        self._coarse, self._fine = own.image - fine[0], fine[0]
        change = alike - fine[1] - self._coarse, fine[1] / np.float32(self._gain) - fine[0]
        # what each place adds when it is the partner's; two images that are alike there add nothing
        self._added = {
            name: tuple(weight * part for part in change) for name, weight in self._weights.items()
        }

    def mixed(self, coalition: int) -> Floats:
        """Compose; see the class."""
        image, fine = self._coarse.copy(), self._fine.copy()
        for name, (of_coarse, of_fine) in self._added.items():
            if self.has(coalition, name):
                image += of_coarse
                fine += of_fine
        if self.has(coalition, "noise"):
            fine *= np.float32(self._gain)
        image += fine
        if self.has(coalition, "low_frequency"):
            image *= self._ratio
        return np.asarray(image[None], np.float32)

    def differs(self, name: str) -> bool:
        """Whether the two images differ in this factor."""
        if name in self._weights:
            return bool(((self._weights[name] > 0) & (self.own[0] != self.partner[0])).any())
        if name == "noise":
            return abs(self._gain - 1) > 1e-6
        return bool(np.abs(self._ratio - 1).max() > 1e-6)

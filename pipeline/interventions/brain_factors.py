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
    Grain,
    Mask,
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
SAME_MEAN = 0.001
"""Brains whose means differ by no more have been scaled to one mean."""


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
    divided out, noise and sharpness of its finest scale equalled); target, rest, rim and outside are taken
    from either with smooth seams; then the partner's noise and sharpness and last its low-frequency intensity
    are put on, if they are members. Style is a ratio of the two images, so that anatomy cannot pass for it.
    Where preprocessing has scaled both brains to one mean, the composed one is scaled to it again: fluid that
    takes the place of tissue, or a rim, lowers the mean and so makes everything else brighter, which is the
    doing of that place and no difference of illumination.

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
        # outside the brains there is no light to be compared, and a marker is not to be dimmed by it
        light = np.log(smooth_ratio(own.image, partner.image, tissue)) * (1 - self._weights["outside"])
        self._ratio = np.asarray(np.exp(light), np.float32)
        alike = partner.image / self._ratio
        fine = [fine_scale(i, FINE_VOXELS) for i in (own.image, alike)]
        # atrophy makes edges, and must not pass for sharpness
        grain = [
            Grain.of(f, i, field & ~parts["target"])
            for f, i, field in zip(fine, (own.image, alike), (own.field, partner.field), strict=True)
        ]
        self._alike = grain[0].like(grain[1])
        self._coarse = own.image - fine[0]
        # what each place adds when it is the partner's; two images that are alike there add nothing
        levels = (  # fine scales of both images: as grainy as the own one, and as the partner
            (fine[0], grain[1].become(grain[0], fine[1])),
            (grain[0].become(grain[1], fine[0]), fine[1]),
        )
        self._fine = [own_fine for own_fine, _ in levels]
        coarse = alike - fine[1] - self._coarse
        self._added = {
            name: (weight * coarse, *(weight * (other - mine) for mine, other in levels))
            for name, weight in self._weights.items()
        }
        fields = [i.field.astype(np.float32) for i in (own, partner)]
        self._field = fields[0]
        self._field_added = {name: w * (fields[1] - fields[0]) for name, w in self._weights.items()}
        means = [float(i.image[i.field].mean()) for i in (own, partner)]
        self._mean = means[0] if abs(means[1] / means[0] - 1) < SAME_MEAN else None

    def mixed(self, coalition: int) -> Floats:
        """Compose; see the class."""
        level = int(self.has(coalition, "noise"))
        image = self._coarse + self._fine[level]
        for name, added in self._added.items():
            if self.has(coalition, name):
                image += added[0]
                image += added[1 + level]
        if self.has(coalition, "low_frequency"):
            image *= self._ratio
        if self._mean is not None:
            field = self._field.copy()
            for name, added_field in self._field_added.items():
                if self.has(coalition, name):
                    field += added_field
            image *= np.float32(self._mean * field.sum() / max(float((image * field).sum()), 1e-6))
        return np.asarray(image[None], np.float32)

    def differs(self, name: str) -> bool:
        """Whether the two images differ in this factor."""
        if name in self._weights:
            return bool(((self._weights[name] > 0) & (self.own[0] != self.partner[0])).any())
        if name == "noise":
            return not self._alike
        return bool(np.abs(self._ratio - 1).max() > 1e-6)

"""Factors of a photograph that can be swapped between two retinas, though their anatomy does not align."""

from __future__ import annotations

from collections.abc import Sequence
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

FACTORS = ("lesions", "background", "outside", "illumination", "sharpness")
RIM_SHARE = 0.03
"""Share of the field's width that goes with its outside, so that a blurred edge is no half of two."""
FINE_PIXELS = 0.8
GROW_PIXELS = 1.5
"""Lesion marks are widened by so much before they are filled: resampling spreads a lesion's border."""


@dataclass(frozen=True)
class RetinaImage:
    """One photograph on the model's grid.

    Attributes
    ----------
    image : ndarray of float32, shape (3, H, W)
        Colours 0–1, before the model's normalisation.
    field : ndarray of bool, shape (H, W)
        Field of view.
    lesions : ndarray of bool, shape (H, W)
        All expert marks.
    """

    image: Floats
    field: Mask
    lesions: Mask


def without(image: Floats, mask: Mask, field: Mask) -> Floats:
    """Fill a mask from its surroundings: a pyramid of normalised Gaussians, with the field's grain put back.

    Parameters
    ----------
    image : ndarray of float32, shape (C, H, W)
    mask : ndarray of bool, shape (H, W)
        What is to vanish.
    field : ndarray of bool, shape (H, W)
        Nothing outside is used.

    Returns
    -------
    ndarray of float32, shape (C, H, W)
        Equal to `image` outside the mask.
    """
    if not mask.any():
        return image
    hole = mask & field
    known = (field & ~mask).astype(np.float32)
    filled = image.copy()
    todo = hole.copy()
    sigma = 1.5
    while todo.any() and sigma < max(mask.shape):
        weight = ndimage.gaussian_filter(known, sigma, truncate=3)
        here = todo & (weight > 0.15)
        for channel, plane in enumerate(image):
            smooth = ndimage.gaussian_filter(plane * known, sigma, truncate=3)
            filled[channel][here] = smooth[here] / weight[here]
        todo &= ~here
        sigma *= 1.6
    rng = np.random.default_rng(0)
    for channel, plane in enumerate(image):
        level = fine_level(fine_scale(plane, FINE_PIXELS), plane, field & ~mask)
        grain = fine_scale(rng.standard_normal(mask.shape).astype(np.float32), FINE_PIXELS)
        filled[channel][hole] += (level / grain.std() * grain)[hole]
    return np.asarray(filled, np.float32)


def displaced_mask(mask: Mask, allowed: Mask, *, seed: int, tries: int = 60) -> Mask:
    """Move the pieces of a mask, each as it is, to places where there was none: the control of a removal.

    Parameters
    ----------
    mask : ndarray of bool, shape (H, W)
    allowed : ndarray of bool, shape (H, W)
        Where pieces may go: the field without lesions.
    seed : int
    tries : int
        Places tried for each piece; a piece for which there is no room is left out.
    """
    rng = np.random.default_rng(seed)
    labels, count = ndimage.label(mask)
    free = allowed.copy()
    moved = np.zeros_like(mask)
    shape = np.array(mask.shape)
    sizes = ndimage.sum_labels(mask, labels, np.arange(1, count + 1))
    pieces = ndimage.find_objects(labels)
    for index in np.argsort(-np.atleast_1d(sizes)):
        box = pieces[index]
        piece = labels[box] == index + 1
        room = shape - piece.shape
        for _ in range(tries):
            corner = [int(rng.integers(0, r + 1)) for r in room]
            place = tuple(slice(c, c + n) for c, n in zip(corner, piece.shape, strict=True))
            if free[place][piece].all():
                moved[place] |= piece
                free[place] &= ~piece
                break
    return moved


class RetinaPair(Composition):
    """A photograph and its partner of the other class.

    Both are taken apart into what their lesions do to the retina (a ratio, 1 off the marks), the retina
    without them, and what lies in the rim and outside; the partner's retina is first brought to the own
    one's illumination, colour and sharpness. Composed in a fixed order: retina (`background`: disc, macula,
    vessels and the rest of the field, which patients do not share and which are therefore swapped as a
    whole), lesions on it (swapped alone this is removal, together with the background a transplant), rim and
    outside, then sharpness, then illumination and colour.

    Parameters
    ----------
    own, partner : RetinaImage
        Their fields of view are aligned by the model's grid.
    scale : (mean, std), each of shape (3,)
        The model's normalisation, applied last.
    """

    def __init__(
        self, own: RetinaImage, partner: RetinaImage, scale: tuple[Sequence[float], Sequence[float]]
    ) -> None:
        self._mean, self._std = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in scale)
        super().__init__(self._normalise(own.image), self._normalise(partner.image), FACTORS)
        field = own.field & partner.field
        width = float(np.sqrt(field.sum() / np.pi) * 2)
        inner = ndimage.distance_transform_edt(field) > RIM_SHARE * width
        self._weights = soft_parts({"inside": inner, "outside": ~inner}, 1.5)
        self._marks = [_grown(i.lesions) & i.field for i in (own, partner)]
        clean = [without(i.image, m, i.field) for i, m in zip((own, partner), self._marks, strict=True)]
        layer = [
            np.divide(i.image, c, out=np.ones_like(c), where=c > 0.02).clip(0, 20)
            for i, c in zip((own, partner), clean, strict=True)
        ]
        self._lesions = layer
        tissue = inner & ~self._marks[0] & ~self._marks[1]
        self._ratio = np.stack([smooth_ratio(a, b, tissue) for a, b in zip(clean[0], clean[1], strict=True)])
        # outside the fields there is no light to be compared
        self._ratio = np.asarray(np.exp(np.log(self._ratio) * self._weights["inside"]), np.float32)
        retinas = [clean[0], clean[1] / self._ratio]
        fine = [np.stack([fine_scale(c, FINE_PIXELS) for c in retina]) for retina in retinas]
        levels = [
            np.array([fine_level(f, c, inner) for f, c in zip(planes, retina, strict=True)])
            for planes, retina in zip(fine, retinas, strict=True)
        ]
        self._gain = np.asarray(levels[1] / levels[0], np.float32).reshape(-1, 1, 1)
        self._coarse = [retinas[0] - fine[0], retinas[1] - fine[1]]
        self._fine = [fine[0], fine[1] / self._gain]

    def mixed(self, coalition: int) -> Floats:
        """Compose; see the class."""
        inside, outside = (int(self.has(coalition, name)) for name in ("background", "outside"))
        lesions = self._lesions[int(self.has(coalition, "lesions"))]
        image = np.zeros_like(self._coarse[0])
        for part, source in (("inside", inside), ("outside", outside)):
            fine = self._fine[source]
            if self.has(coalition, "sharpness"):
                fine = fine * self._gain
            image += self._weights[part] * (self._coarse[source] + fine)
        image *= lesions
        if self.has(coalition, "illumination"):
            image = image * self._ratio
        return self._normalise(np.clip(image, 0, 1) if 0 < coalition < 31 else image)

    def differs(self, name: str) -> bool:
        """Whether the two images differ in this factor."""
        if name == "lesions":
            return bool(self._marks[0].any() or self._marks[1].any())
        if name == "outside":
            return bool(((self._weights["outside"] > 0) & (self.own != self.partner)).any())
        return True

    def _normalise(self, image: Floats) -> Floats:
        return np.asarray((image - self._mean) / self._std, np.float32)


def _grown(mask: Mask) -> Mask:
    if not mask.any():
        return mask
    grown: npt.NDArray[np.bool_] = ndimage.distance_transform_edt(~mask) <= GROW_PIXELS
    return grown

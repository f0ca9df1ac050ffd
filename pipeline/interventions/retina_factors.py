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

FACTORS = ("lesions", "disc", "vessels", "background", "outside", "style")
RIM_SHARE = 0.03
"""Share of the field's width that goes with its outside, so that a blurred edge is no half of two."""
FINE_PIXELS = 0.8
GROW_PIXELS = 1.5
"""Lesion marks are widened by so much before they are filled: resampling spreads a lesion's border."""
BLACK = np.float32(0.05)
"""Added before logarithms are taken, so that black stays finite."""
FAINTEST = 0.05 / 255
"""In steps of 8 bits, fainter grain is none: a colour that is black has nothing to compare with."""
VESSEL_SHARE = 0.035
"""Nothing wider, as a share of the field's width, is a vessel."""


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
    disc : ndarray of bool, shape (H, W), optional
        Optic disc and macula, where they were found.
    """

    image: Floats
    field: Mask
    lesions: Mask
    disc: Mask | None = None


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
    if not (mask & field).any():
        return image
    rows, columns = _box(mask & field)
    if rows != slice(0, mask.shape[0]) or columns != slice(0, mask.shape[1]):
        filled = image.copy()
        filled[:, rows, columns] = without(image[:, rows, columns], mask[rows, columns], field[rows, columns])
        return filled
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


def vessel_mask(image: Floats, field: Mask) -> Mask:
    """Find dark, thin, long structures: what a closing of the green channel fills in.

    Parameters
    ----------
    image : ndarray of float32, shape (3, H, W)
        Colours 0–1, lesions filled in.
    field : ndarray of bool, shape (H, W)
    """
    width = 2 * float(np.sqrt(field.sum() / np.pi))
    nearest = ndimage.distance_transform_edt(~field, return_distances=False, return_indices=True)
    green = ndimage.gaussian_filter(image[1][tuple(nearest)], max(0.7, 0.003 * width))
    size = 2 * max(1, round(VESSEL_SHARE * width / 2)) + 1
    depth = np.where(field, ndimage.grey_closing(green, size=(size, size)) - green, 0)
    deep = depth > max(0.3 * float(np.quantile(depth[field], 0.99)), 0.01)
    pieces, count = ndimage.label(deep, np.ones((3, 3)))
    boxes = ndimage.find_objects(pieces)
    long = [i + 1 for i in range(count) if max(b.stop - b.start for b in boxes[i]) >= 0.12 * width]
    return np.asarray(np.isin(pieces, long) & field)


class RetinaPair(Composition):
    """A photograph and its partner of the other class.

    In logarithms both are the sum of what their lesions, their vessels, and their disc and macula do to the
    retina (0 off these places; each is what filling them in from around takes away), of the retina without
    them, and of what lies in the rim and outside. Patients do not align: each part is taken away or put where
    it lies in its own photograph, so that lesions swapped alone are a removal, and a transplant if the
    retina is the partner's. The partner is first brought to the own one's illumination, colour and
    sharpness, which come back last if `style` is a member.

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
        self._weights = soft_parts({"background": inner, "outside": ~inner}, 1.5)
        taken = [_taken_apart(i) for i in (own, partner)]
        self._found = {name: any(t.masks[name].any() for t in taken) for name in LAYERS}
        tissue = inner.copy()
        for one in taken:
            for mask in one.masks.values():
                tissue &= ~mask
        light = np.stack([smooth_ratio(a, b, tissue) for a, b in zip(own.image, partner.image, strict=True)])
        # outside the fields there is no light to be compared
        self._light = np.asarray(np.log(light) * self._weights["background"], np.float32)
        parts = [taken[0].parts, taken[1].parts | {"retina": taken[1].parts["retina"] - self._light}]
        fine = [{n: _fine(part) for n, part in side.items()} for side in parts]
        flat = [
            [fine_level(f, c, inner) for f, c in zip(f_side["retina"], side["retina"], strict=True)]
            for f_side, side in zip(fine, parts, strict=True)
        ]
        levels = np.array(flat)
        steps = [np.exp(-np.median(one.parts["retina"][:, inner], axis=1)) for one in taken]
        known = (levels > FAINTEST * np.array(steps)).all(axis=0)
        gain = np.where(known, levels[1] / levels[0], 1)
        self._gain = np.asarray(gain, np.float32).reshape(-1, 1, 1)
        self._coarse = [{n: side[n] - f[n] for n in side} for side, f in zip(parts, fine, strict=True)]
        self._fine = [fine[0], {n: f / self._gain for n, f in fine[1].items()}]

    def mixed(self, coalition: int) -> Floats:
        """Compose; see the class."""
        coarse, fine = np.zeros_like(self._light), np.zeros_like(self._light)
        for name in ("background", "outside"):
            source = int(self.has(coalition, name))
            coarse += self._weights[name] * self._coarse[source]["retina"]
            fine += self._weights[name] * self._fine[source]["retina"]
        for name in LAYERS:
            source = int(self.has(coalition, name))
            coarse += self._coarse[source][name]
            fine += self._fine[source][name]
        if self.has(coalition, "style"):
            fine = fine * self._gain
            coarse = coarse + self._light
        return self._normalise(np.clip(np.exp(np.minimum(coarse + fine, 1)) - BLACK, 0, 1))

    def differs(self, name: str) -> bool:
        """Whether the two images differ in this factor."""
        if name in self._found:
            return self._found[name]
        if name == "outside":
            return bool(((self._weights["outside"] > 0) & (self.own != self.partner)).any())
        return True

    def _normalise(self, image: Floats) -> Floats:
        return np.asarray((image - self._mean) / self._std, np.float32)


LAYERS = ("lesions", "vessels", "disc")
"""In the order in which they are taken off."""


@dataclass(frozen=True)
class _Taken:
    masks: dict[str, Mask]
    parts: dict[str, Floats]


def _taken_apart(one: RetinaImage) -> _Taken:
    """Peel lesions, vessels, and disc and macula off the logarithm of a photograph."""
    lesions = _grown(one.lesions) & one.field
    left = np.asarray(np.log(np.clip(one.image, 0, None) + BLACK), np.float32)
    parts: dict[str, Floats] = {}
    masks: dict[str, Mask] = {}
    for name in LAYERS:
        if name == "lesions":
            mask = lesions
        elif name == "vessels":
            mask = vessel_mask(np.exp(left) - BLACK, one.field)
        else:
            mask = np.zeros_like(lesions) if one.disc is None else one.disc & one.field
        clean = _without_each(left, mask, one.field)
        masks[name], parts[name] = mask, left - clean
        left = clean
    return _Taken(masks, parts | {"retina": left})


def _without_each(image: Floats, mask: Mask, field: Mask) -> Floats:
    """Fill large pieces one by one in their own box, and all the small ones at once."""
    pieces, count = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    boxes = ndimage.find_objects(pieces)
    for i in np.flatnonzero(sizes > 0.005 * mask.size):
        area = np.prod([b.stop - b.start for b in boxes[i]])
        if sizes[i] > 0.5 * area:  # compact, such as a disc
            piece = pieces == i + 1
            image = without(image, piece, field & ~(mask & ~piece))
            mask = mask & ~piece
    return without(image, mask, field)


def _box(mask: Mask) -> tuple[slice, slice]:
    """Bounding box of a mask, with room around it to fill from."""
    found = []
    for axis in (1, 0):
        at = np.flatnonzero(mask.any(axis))
        room = max(12, (at[-1] - at[0]) // 2)
        found.append(slice(max(0, int(at[0]) - room), min(mask.shape[1 - axis], int(at[-1]) + 1 + room)))
    return found[0], found[1]


def _fine(part: Floats) -> Floats:
    return np.stack([fine_scale(c, FINE_PIXELS) for c in part])


def _grown(mask: Mask) -> Mask:
    if not mask.any():
        return mask
    grown: npt.NDArray[np.bool_] = ndimage.distance_transform_edt(~mask) <= GROW_PIXELS
    return grown

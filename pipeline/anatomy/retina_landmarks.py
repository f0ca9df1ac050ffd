"""Optic disc, fovea and laterality of a fundus photograph, each with a confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.anatomy.retina import FieldOfView
from pipeline.images.types import BoolArray, Photograph

Array = npt.NDArray[np.float64]

_RADIUS = 150  # working radius of the field, pixels
DISC_RADIUS = 0.15  # usual radius of the disc, in radii of a 45–50° field
DISC_RANGE = (0.10, 0.21)
FOVEA_DISTANCE = (3.8, 6.6)  # from the disc's centre, in disc radii
FOVEA_ANGLE = (-8.0, 26.0)  # degrees below the horizontal through the disc
ASIDE = 0.45  # field radii: photographs are taken of the macula more often than of the disc


@dataclass(frozen=True)
class Landmarks:
    """Where disc and fovea lie, in pixels of the photograph.

    Attributes
    ----------
    disc : tuple of 3 floats
        Row, column, radius.
    fovea : tuple of 2 floats
        Row, column.
    laterality : {"right", "left"}
        Which eye, for a photograph that is not mirrored.
    disc_confidence, fovea_confidence : float
        0–1: how far the landmark stands out against the next best place for it.
    """

    disc: tuple[float, float, float]
    fovea: tuple[float, float]
    laterality: Literal["right", "left"]
    disc_confidence: float
    fovea_confidence: float


@dataclass(frozen=True)
class _Retina:
    """The field, shrunk so that its radius is `_RADIUS` pixels, its shading taken off."""

    bright: Array
    green: Array
    vessels: Array
    inside: BoolArray
    shrink: float
    view: FieldOfView

    def native(self, row: float, column: float) -> tuple[float, float]:
        """Pixel of the photograph."""
        return (
            self.view.row + (row - _RADIUS) * self.shrink,
            self.view.column + (column - _RADIUS) * self.shrink,
        )


def find_landmarks(photograph: Photograph, view: FieldOfView) -> Landmarks:
    """Find disc, fovea and side.

    The disc is where a bright round spot of the right size meets vessels that leave it upwards and
    downwards; the fovea is the darkest spot without vessels 3.8–6.6 disc radii beside it.

    Parameters
    ----------
    photograph : Photograph
    view : FieldOfView

    References
    ----------
    Niemeijer et al. 2009, doi:10.1016/j.media.2009.08.003 (disc and fovea by position and vessels).
    """
    retina = _shrunk(photograph, view)
    row, column, radius, disc_confidence = _find_disc(retina)
    fovea_row, fovea_column, fovea_confidence = _find_fovea(retina, row, column, radius)
    return Landmarks(
        disc=(*retina.native(row, column), radius * retina.shrink),
        fovea=retina.native(fovea_row, fovea_column),
        laterality="right" if fovea_column < column else "left",
        disc_confidence=disc_confidence,
        fovea_confidence=min(fovea_confidence, disc_confidence),
    )


def _shrunk(photograph: Photograph, view: FieldOfView) -> _Retina:
    shrink = view.radius / _RADIUS
    side = 2 * _RADIUS + 1
    offset = (view.row - _RADIUS * shrink, view.column - _RADIUS * shrink)
    colours = []
    for channel in (0, 1):
        plane = photograph.data[..., channel]
        step = max(1, int(shrink))
        soft = ndimage.uniform_filter(plane, step)[::step, ::step] if step > 1 else plane
        small = ndimage.affine_transform(
            soft,
            np.full(2, shrink / step),
            offset=np.array(offset) / step,
            output_shape=(side, side),
            order=1,
        )
        colours.append(small.astype(np.float64))
    at = np.arange(side) - _RADIUS
    inside = at[:, None] ** 2 + at[None] ** 2 <= (0.96 * _RADIUS) ** 2
    rows = np.arange(side) * shrink + offset[0]
    columns = np.arange(side) * shrink + offset[1]
    inside &= ((rows > 2) & (rows < view.shape[0] - 3))[:, None]
    inside &= ((columns > 2) & (columns < view.shape[1] - 3))[None]
    red, green = (_extended(plane, inside) for plane in colours)
    width = round(0.05 * _RADIUS)
    # without vessels and without small bright lesions: closed, then opened
    closed = ndimage.grey_closing(green, size=(2 * width + 1, 2 * width + 1))
    vessels = np.where(inside, closed - green, 0)
    opened = ndimage.grey_opening(closed, size=(width, width))
    red_closed = ndimage.grey_closing(red, size=(2 * width + 1, 2 * width + 1))
    bright = _flat(opened, inside) + 0.5 * _flat(red_closed, inside)
    return _Retina(bright, _flat(green, inside), vessels, inside, shrink, view)


def _extended(plane: Array, inside: BoolArray) -> Array:
    """Continue the retina beyond its field by the nearest pixel, so that the rim is no edge."""
    nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
    extended: Array = plane[tuple(nearest)]
    return extended


def _flat(plane: Array, inside: BoolArray) -> Array:
    """Divide by the large-scale shading; 0 is usual, 1 standard deviation above it is 1."""
    shading = ndimage.gaussian_filter(plane, 0.45 * _RADIUS, mode="nearest")
    flat = plane / np.maximum(shading, 1e-3) - 1
    spread = 1.4826 * np.median(np.abs(flat[inside] - np.median(flat[inside])))
    scaled: Array = np.clip((flat - np.median(flat[inside])) / max(spread, 1e-6), -4, 8)
    return scaled


def _disk(radius: float) -> Array:
    n = int(np.ceil(radius))
    at = np.arange(-n, n + 1)
    shape: Array = (at[:, None] ** 2 + at[None] ** 2 <= radius**2).astype(np.float64)
    return shape


def _spot(plane: Array, radius: float) -> Array:
    """Mean within a radius less the mean of the ring around it."""
    from scipy.signal import fftconvolve

    inner, outer = _disk(radius), _disk(1.7 * radius)
    total = fftconvolve(plane, outer, mode="same")
    core = fftconvolve(plane, inner, mode="same")
    spot: Array = core / inner.sum() - (total - core) / (outer.sum() - inner.sum())
    return spot


def _find_disc(retina: _Retina) -> tuple[float, float, float, float]:
    """Row, column, radius (working pixels) and confidence of the disc."""
    usual = DISC_RADIUS * _RADIUS
    spot = _spot(retina.bright, usual)
    # vessels that run up and down: smooth along them, difference across
    upright = ndimage.gaussian_filter(retina.vessels, (0.06 * _RADIUS, 0.5))
    level = ndimage.gaussian_filter(retina.vessels, (0.5, 0.06 * _RADIUS))
    trunk = ndimage.uniform_filter(
        np.maximum(upright - 0.6 * level, 0), (round(4.5 * usual), round(1.6 * usual))
    )
    place = retina.inside & (ndimage.distance_transform_edt(retina.inside) > 0.6 * usual)
    rows = np.abs(np.arange(spot.shape[0]) - _RADIUS) / _RADIUS
    score = _scored(spot, place) + 0.9 * _scored(trunk, place) - 4.0 * np.maximum(rows - 0.3, 0)[:, None]
    aside = np.abs(np.arange(spot.shape[1]) - _RADIUS) / _RADIUS
    score -= np.maximum(1 - aside / ASIDE, 0)[None]  # by up to one standard deviation
    score = np.where(place, ndimage.gaussian_filter(score, 2), -np.inf)
    best = np.unravel_index(int(score.argmax()), score.shape)
    away = np.hypot(*(np.indices(score.shape) - np.array(best)[:, None, None])) > 2.2 * usual
    second = float(score[away & place].max())
    top = float(score[best])
    confidence = float(np.clip((top - second) / max(top, 1e-6) / 0.5, 0, 1)) if top > 0 else 0.0
    row, column, radius = _fit_disc(retina, float(best[0]), float(best[1]))
    return row, column, radius, confidence


def _scored(plane: Array, place: BoolArray) -> Array:
    values = plane[place]
    scored: Array = (plane - np.median(values)) / max(float(values.std()), 1e-9)
    return scored


def _fit_disc(retina: _Retina, row: float, column: float) -> tuple[float, float, float]:
    """Circle near a point across which brightness falls most (Daugman's operator)."""
    soft = ndimage.gaussian_filter(retina.bright, 1.5)
    angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    radii = np.arange(DISC_RANGE[0] * _RADIUS, DISC_RANGE[1] * _RADIUS, 1.0)
    reach = np.arange(-12, 13, 2.0)
    steps = np.concatenate([[radii[0] - 3], radii + 3])
    best, found = -np.inf, (row, column, DISC_RADIUS * _RADIUS)
    for down in reach:
        for right in reach:
            r = row + down + np.sin(angles)[None] * steps[:, None]
            c = column + right + np.cos(angles)[None] * steps[:, None]
            means = ndimage.map_coordinates(soft, [r, c], order=1, mode="nearest")
            inner = means[:-6] if len(means) > 6 else means
            falls = np.median(inner - means[6:], axis=1)
            index = int(falls.argmax())
            gain = float(falls[index]) - 0.01 * float(np.hypot(down, right))
            if gain > best:
                best, found = (
                    gain,
                    (row + down, column + right, float(radii[min(index + 2, len(radii) - 1)]) + 3),
                )
    return found


def _find_fovea(retina: _Retina, row: float, column: float, radius: float) -> tuple[float, float, float]:
    """Row, column (working pixels) and confidence of the fovea."""
    unit = float(np.clip(radius, 0.12 * _RADIUS, 0.18 * _RADIUS))
    green = ndimage.gaussian_filter(np.clip(retina.green, -4, 2), 0.35 * unit)
    wide = ndimage.gaussian_filter(np.clip(retina.green, -4, 2), 1.6 * unit)
    vessels = ndimage.gaussian_filter(retina.vessels, 0.5 * unit)
    rows, columns = np.indices(green.shape)
    down, right = rows - row, columns - column
    distance = np.hypot(down, right) / unit
    angle = np.rad2deg(np.arctan2(down, np.abs(right)))
    ring = (distance > FOVEA_DISTANCE[0]) & (distance < FOVEA_DISTANCE[1])
    ring &= (angle > FOVEA_ANGLE[0]) & (angle < FOVEA_ANGLE[1]) & retina.inside
    ring &= ndimage.distance_transform_edt(retina.inside) > 0.8 * unit
    if not ring.any():
        side = -np.sign(column - _RADIUS) or 1.0
        return row + 0.5 * unit, column + side * 4.9 * unit, 0.0
    usual = 0.5 * ((distance - 4.95) / 0.8) ** 2 + 0.5 * ((angle - 6) / 9) ** 2
    nearer = (
        -2.5 * np.hypot(rows - _RADIUS, columns - _RADIUS) / _RADIUS
    )  # photographs are taken of the macula
    score = _scored(wide - green, retina.inside) - _scored(vessels, retina.inside) - 0.5 * usual + nearer
    score = np.where(ring, score, -np.inf)
    best = np.unravel_index(int(score.argmax()), score.shape)
    away = ring & (np.hypot(rows - best[0], columns - best[1]) > 1.5 * unit)
    second = float(score[away].max()) if away.any() else float(score[best]) - 2
    confidence = float(np.clip((float(score[best]) - second) / 2.0, 0, 1))
    return float(best[0]), float(best[1]), confidence

"""Maps downsized to a small grid that follows the anatomy: all that is kept of every case's map.

The grid spans the bounding box of the brain, its axes turned to right, anterior, superior, or the bounding
square of the field of view. Relevance inside the anatomy and outside it has a grid each: inside, left eyes
are mirrored, so that one place of the retina is one cell; a camera's label beside the field stays where the
camera puts it. What lies beyond the grid counts to its outermost cells, so that no mass is lost.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.trust.downsizing import overlaps, pooled

BRAIN, FUNDUS = (12, 14, 12), (16, 16)
"""Cells: about 12 mm of a brain, a sixteenth of a field of view."""
LEFT = ("left", "l", "os")
VERSION = "small maps/1"
Floats = npt.NDArray[np.float64]


def small_map(
    values: npt.NDArray[np.floating],
    field: npt.NDArray[np.bool_],
    affine: npt.NDArray[np.float64] | None = None,
    *,
    left: bool = False,
) -> npt.NDArray[np.float32]:
    """Downsize a map.

    Parameters
    ----------
    values : ndarray, shape spatial
    field : ndarray of bool, shape spatial
        Brain or field of view.
    affine : ndarray, shape (4, 4), optional
        Of a brain.
    left : bool
        Whether it is a left eye.

    Returns
    -------
    ndarray of float32, shape (2, *cells)
        Sums inside and outside the field.
    """
    values, field = (_turned(a, affine) for a in (np.asarray(values, np.float64), field))
    cells = BRAIN if field.ndim == 3 else FUNDUS
    frame = frame_of(field)
    inside, outside = pooled(values * field, cells, frame), pooled(values * ~field, cells, frame)
    if left:
        inside = inside[:, ::-1]
    return np.stack([inside, outside]).astype(np.float32)


def enlarged(
    small: npt.NDArray[np.floating],
    field: npt.NDArray[np.bool_],
    affine: npt.NDArray[np.float64] | None = None,
) -> Floats:
    """Spread a small map over the grid of an image, each cell evenly; the inverse of `small_map` for drawing.

    Parameters
    ----------
    small : ndarray, shape (2, *cells)
        Relevance inside the field is spread inside it, and outside outside.
    field, affine
        Of the image that it is drawn on.

    Returns
    -------
    ndarray of float64, shape of `field`
        Relevance per voxel.
    """
    turned = np.asarray(_turned(field, affine))
    frame = frame_of(turned)
    out = np.zeros(turned.shape)
    for values, where in zip(np.asarray(small, np.float64), (turned, ~turned), strict=True):
        volume = pooled(where.astype(np.float64), values.shape, frame)
        density = np.divide(values, volume, out=np.zeros(values.shape), where=volume > 0)
        for axis, (count, span) in enumerate(zip(values.shape, frame, strict=True)):
            shares = overlaps(count, turned.shape[axis], *span)
            density = np.moveaxis(np.tensordot(shares.T, density, axes=(1, axis)), 0, axis)
        out += density * where
    return np.asarray(_turned(out, affine, back=True))


def frame_of(field: npt.NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Return from where to where the grid reaches along each axis: box of a brain, square of a photograph.

    A photograph that cuts the circle at top and bottom still gets a square about its middle.
    """
    if not field.any():
        return [(0.0, float(n)) for n in field.shape]
    others = [tuple(a for a in range(field.ndim) if a != axis) for axis in range(field.ndim)]
    places = [np.flatnonzero(field.any(axis=o)) for o in others]
    spans = [(float(p[0]), float(p[-1] + 1)) for p in places]
    if field.ndim == 3:
        return spans
    side = max(stop - start for start, stop in spans)
    return [((start + stop - side) / 2, (start + stop + side) / 2) for start, stop in spans]


def packed(small: npt.NDArray[np.float32]) -> str:
    """Write a small map as text: shares of its largest value as 16-bit numbers, compressed."""
    largest = float(np.abs(small).max(initial=0.0))
    shares = (small / largest if largest > 0 else np.zeros_like(small)).astype("<f2")
    return base64.b64encode(zlib.compress(shares.tobytes(), 6)).decode("ascii")


def unpacked(text: str, cells: Sequence[int]) -> Floats:
    """Read what `packed` wrote, shape (2, *cells).

    Raises
    ------
    ValueError
        If it is not a small map of so many cells.
    """
    try:
        content = zlib.decompress(base64.b64decode(text, validate=True))
    except (binascii.Error, zlib.error) as error:
        msg = "not a small map"
        raise ValueError(msg) from error
    return np.frombuffer(content, "<f2").astype(np.float64).reshape(2, *cells)


def _turned(
    values: npt.NDArray[Any], affine: npt.NDArray[np.float64] | None, *, back: bool = False
) -> npt.NDArray[Any]:
    """Turn a brain's axes to right, anterior, superior, or back."""
    if affine is None or values.ndim != 3:
        return values
    from nibabel.orientations import apply_orientation, io_orientation, ornt_transform

    turn = io_orientation(affine)
    if back:
        turn = ornt_transform(np.array([[0, 1], [1, 1], [2, 1]]), turn)
    return np.asarray(apply_orientation(values, turn))

"""Where the retina is in a fundus photograph: the camera's circular field of view.

The circle is fitted to its edge, not cut out by a threshold: on a dark photograph a threshold loses part of
the field, and many cameras cut the circle at the top and bottom of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, optimize

from pipeline.errors import AnatomyError
from pipeline.images.types import BoolArray, Photograph

_WORKING_SIDE = 640
_THRESHOLDS = (0.06, 0.03, 0.015, 0.008)
_ANGLES = 720
_MIN_SUPPORT = 0.6
_MIN_VISIBLE = 0.3
_REMEDY = "check that it is a fundus photograph with its black surround, not a crop"

Points = npt.NDArray[np.float64]
Circle = tuple[float, float, float]


@dataclass(frozen=True)
class FieldOfView:
    """The circle within which a camera shows the retina; the picture may cut it.

    Attributes
    ----------
    row, column : float
        Centre, in pixels (0 is the centre of the first pixel).
    radius : float
        In pixels.
    shape : tuple of int
        Rows and columns of the photograph.
    """

    row: float
    column: float
    radius: float
    shape: tuple[int, int]

    def mask(self) -> BoolArray:
        """Pixels whose centre lies in the field, shape (H, W)."""
        rows = (np.arange(self.shape[0]) - self.row)[:, None]
        columns = (np.arange(self.shape[1]) - self.column)[None, :]
        inside: BoolArray = rows**2 + columns**2 <= self.radius**2
        return inside


def field_of_view(photograph: Photograph) -> FieldOfView:
    """Fit the circle of the camera's field of view.

    Edge points seen from the picture's sides vote for a circle (RANSAC, Fischler and Bolles 1981); the circle
    is then refined by least squares on the steepest fall along its normals.

    Parameters
    ----------
    photograph : Photograph

    Returns
    -------
    FieldOfView

    Raises
    ------
    pipeline.errors.AnatomyError
        If the edge of no circle is seen along most of its course within the picture.
    """
    factor = max(1, round(max(photograph.shape) / _WORKING_SIDE))
    signal = _signal(photograph, factor)
    soft: Points = ndimage.gaussian_filter(signal, 1.5)
    down, right = np.asarray(np.gradient(soft, axis=0)), np.asarray(np.gradient(soft, axis=1))
    best: Circle | None = None
    best_support = 0.0
    for threshold in _THRESHOLDS:
        circle = _ransac(_outermost(down, right, threshold), signal.shape)
        if circle is None:
            continue
        for reach in (0.06, 0.03, 0.02):
            circle = _refine(signal, circle, reach)
        support = _support(signal, circle)
        if support > best_support:
            best, best_support = circle, support
    if best is None or best_support < _MIN_SUPPORT:
        raise AnatomyError(f"{photograph.name or 'photograph'}: no circular field of view is seen", _REMEDY)
    row, column, radius = best
    half = 0.5 * (factor - 1)
    return FieldOfView(row * factor + half, column * factor + half, radius * factor, photograph.shape)


def _signal(photograph: Photograph, factor: int) -> Points:
    """Square root of the brightest channel, shrunk by whole blocks: a dark rim counts as a bright one."""
    rows, columns = (n // factor * factor for n in photograph.shape)
    grey = photograph.data[:rows, :columns].max(axis=2)
    blocks = grey.reshape(rows // factor, factor, columns // factor, factor)
    small = blocks.mean(axis=(1, 3), dtype=np.float64)
    signal: Points = np.sqrt(np.clip(small, 0, None) + 1e-3)
    return signal


def _outermost(down: Points, right: Points, threshold: float) -> Points:
    """First point of each row and column, seen from either side, where the picture turns bright."""
    points = []
    for axis, slope in ((1, right), (0, down)):
        for sign in (1, -1):
            rising = sign * slope > threshold
            if sign < 0:
                rising = np.flip(rising, axis)
            first = rising.argmax(axis)
            lines = np.flatnonzero(rising.any(axis) & (first > 0))
            # from the first pixel above the threshold on to the top of the slope
            place = first[lines] if sign > 0 else slope.shape[axis] - 1 - first[lines]
            climb = np.stack([np.clip(place + sign * k, 0, slope.shape[axis] - 1) for k in range(6)])
            steep = sign * (slope[lines, climb] if axis == 1 else slope[climb, lines])
            place = np.take_along_axis(climb, steep.argmax(0)[None], 0)[0]
            points.append(np.stack([lines, place] if axis == 1 else [place, lines], axis=1))
    return np.concatenate(points).astype(np.float64)


def _through(points: Points) -> tuple[Points, Points]:
    """Centres (n, 2) and radii (n,) of the circles through triples of points (n, 3, 2)."""
    origin = points[:, 0]
    chord = points[:, 1:] - origin[:, None]
    square = (chord**2).sum(-1)
    cross = 2 * (chord[:, 0, 0] * chord[:, 1, 1] - chord[:, 0, 1] * chord[:, 1, 0])
    cross = np.where(np.abs(cross) < 1e-9, np.nan, cross)
    row = (chord[:, 1, 1] * square[:, 0] - chord[:, 0, 1] * square[:, 1]) / cross
    column = (chord[:, 0, 0] * square[:, 1] - chord[:, 1, 0] * square[:, 0]) / cross
    return origin + np.stack([row, column], axis=1), np.hypot(row, column)


def _ransac(points: Points, shape: tuple[int, ...]) -> Circle | None:
    if len(points) < 50:
        return None
    generator = np.random.default_rng(0)
    centres, radii = _through(points[generator.integers(len(points), size=(600, 3))])
    # the centre lies in the picture, and most of the width is retina
    possible = np.isfinite(radii) & (radii > 0.25 * min(shape)) & (radii < 0.75 * max(shape))
    possible &= (centres > 0).all(1) & (centres < np.array(shape)).all(1)
    if not possible.any():
        return None
    centres, radii = centres[possible], radii[possible]
    distance = np.linalg.norm(points[None] - centres[:, None], axis=2) - radii[:, None]
    votes = (np.abs(distance) < 0.012 * radii[:, None]).sum(1)
    winner = int(votes.argmax())
    inliers = points[np.abs(distance[winner]) < 0.012 * radii[winner]]
    return _fit(inliers, (centres[winner, 0], centres[winner, 1], radii[winner]))


def _fit(points: Points, start: Circle) -> Circle:
    """Geometric least squares with a robust loss."""

    def residuals(circle: Points) -> Points:
        off: Points = np.hypot(points[:, 0] - circle[0], points[:, 1] - circle[1]) - circle[2]
        return off

    found = optimize.least_squares(residuals, start, loss="soft_l1", f_scale=0.5)
    row, column, radius = (float(value) for value in found.x)
    return row, column, radius


def _normals(signal: Points, circle: Circle, reach: float) -> tuple[Points, Points, BoolArray]:
    """Signal along the circle's normals (angles, steps), the steps in pixels, and which angles are seen."""
    row, column, radius = circle
    angles = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    width = max(4.0, reach * radius)
    steps = np.linspace(-width, width, 2 * int(2 * width) + 1)
    rows = row + np.sin(angles)[:, None] * (radius + steps)
    columns = column + np.cos(angles)[:, None] * (radius + steps)
    margin = 1.0
    seen = (rows > margin) & (rows < signal.shape[0] - 1 - margin)
    seen &= (columns > margin) & (columns < signal.shape[1] - 1 - margin)
    middle = slice(len(steps) // 4, 3 * len(steps) // 4 + 1)
    values = ndimage.map_coordinates(signal, [rows, columns], order=1, mode="nearest")
    return ndimage.gaussian_filter1d(values, 1.5, axis=1), steps, seen[:, middle].all(1)


def _falls(signal: Points, circle: Circle, reach: float) -> tuple[Points, Points, BoolArray]:
    """Where along each normal the signal falls most steeply, by how much, and which angles are seen."""
    values, steps, seen = _normals(signal, circle, reach)
    slope = -np.gradient(values, steps, axis=1)
    return steps[slope.argmax(1)], slope.max(1), seen


def _refine(signal: Points, circle: Circle, reach: float) -> Circle:
    row, column, radius = circle
    place, steepness, seen = _falls(signal, circle, reach)
    seen &= steepness > 0.004
    if seen.sum() < _ANGLES // 8:
        return circle
    angles = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)[seen]
    along = radius + place[seen]
    edge = np.stack([row + np.sin(angles) * along, column + np.cos(angles) * along], axis=1)
    return _fit(edge, circle)


def _support(signal: Points, circle: Circle) -> float:
    """Share of the visible circle along which the picture falls off to darkness."""
    place, steepness, seen = _falls(signal, circle, 0.04)
    if seen.mean() < _MIN_VISIBLE:
        return 0.0
    near = (np.abs(place) < max(1.5, 0.01 * circle[2])) & (steepness > 0.004)
    return float(near[seen].mean())

"""The plan of one phantom eye: which camera, where field, disc and fovea lie, and its pixel grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.anatomy.retina import FieldOfView
from pipeline.images.types import FloatArray

Laterality = Literal["right", "left"]
Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Site:
    """A camera and its hospital: what differs between photographs for no medical reason.

    Attributes
    ----------
    colour : tuple of 3 floats
        Mean retina in red, green, blue.
    aspect : float
        Width over height of the picture.
    reach : float
        Radius of the field over half the picture's height; above 1 the circle is cut.
    vignette : float
        Loss of light from the centre to the rim.
    noise, blur : float
        Noise (SD, 0–1) and point spread (SD, thousandths of the radius).
    notch : bool
        Small tabs on the rim, by which some cameras mark the side: 0 or 1.
    black : float
        Level outside the field.
    """

    colour: Colour
    aspect: float
    reach: float
    vignette: float
    noise: float
    blur: float
    notch: int
    black: float


SITES: dict[str, Site] = {
    "amber": Site((0.82, 0.43, 0.10), 1.50, 1.19, 0.30, 0.008, 2.2, 1, 0.004),
    "rose": Site((0.80, 0.47, 0.30), 1.00, 0.95, 0.22, 0.006, 1.6, 0, 0.000),
    "copper": Site((0.70, 0.32, 0.12), 1.25, 1.04, 0.42, 0.010, 2.6, 0, 0.012),
}
"""Cameras by name."""

DISC_RADIUS = 0.150
FOVEA_DISTANCE = 0.73


@dataclass(frozen=True)
class Eye:
    """Geometry of one phantom; lengths are in radii of the field, angles in radians, y points down.

    Attributes
    ----------
    site : Site
    laterality : {"right", "left"}
    view : FieldOfView
    disc, fovea : tuple of 2 floats
        (y, x) from the field's centre.
    disc_radius : float
        Horizontal semi-axis; the vertical one is 8 % longer.
    """

    site: Site
    laterality: Laterality
    view: FieldOfView
    disc: tuple[float, float]
    fovea: tuple[float, float]
    disc_radius: float

    @property
    def temporal(self) -> int:
        """Direction from disc to fovea along the columns: −1 in a right eye, 1 in a left one."""
        return -1 if self.laterality == "right" else 1

    @cached_property
    def grid(self) -> tuple[FloatArray, FloatArray]:
        """(y, x) of every pixel from the field's centre, each (H, W), in radii."""
        rows, columns = self.view.shape
        y = (np.arange(rows, dtype=np.float32) - self.view.row) / self.view.radius
        x = (np.arange(columns, dtype=np.float32) - self.view.column) / self.view.radius
        ys, xs = np.meshgrid(y, x, indexing="ij")
        return ys.astype(np.float32), xs.astype(np.float32)

    def pixel(self, y: float, x: float) -> tuple[float, float]:
        """Row and column of a point given in radii."""
        return self.view.row + y * self.view.radius, self.view.column + x * self.view.radius

    def distance(self, point: tuple[float, float], *, stretch: float = 1.0) -> FloatArray:
        """Distance of every pixel from a point, (H, W), in radii; `stretch` > 1 makes tall ovals."""
        y, x = self.grid
        away: FloatArray = np.hypot((y - point[0]) / stretch, x - point[1])
        return away


def plan_eye(
    generator: np.random.Generator, site: Site, size: int, laterality: Laterality | None = None
) -> Eye:
    """Draw where everything lies.

    Parameters
    ----------
    generator : numpy Generator
    site : Site
    size : int
        Height of the picture in pixels.
    laterality : {"right", "left"}, optional
        Drawn when not given.
    """
    drawn: Laterality = "right" if generator.random() < 0.5 else "left"
    laterality = laterality or drawn
    shape = (size, round(size * site.aspect))
    centre = (np.array(shape) - 1) / 2 + generator.normal(0, 0.004, 2) * size
    view = FieldOfView(float(centre[0]), float(centre[1]), 0.5 * size * site.reach, shape)
    temporal = -1 if laterality == "right" else 1
    fovea = generator.normal(0, 0.05, 2)
    tilt = generator.normal(np.radians(6), np.radians(3))  # the disc lies a little above the fovea
    reach = FOVEA_DISTANCE * generator.normal(1, 0.04)
    disc = (fovea[0] - reach * np.sin(tilt), fovea[1] - temporal * reach * np.cos(tilt))
    radius = DISC_RADIUS * generator.normal(1, 0.06)
    return Eye(
        site=site,
        laterality=laterality,
        view=view,
        disc=(float(disc[0]), float(disc[1])),
        fovea=(float(fovea[0]), float(fovea[1])),
        disc_radius=float(radius),
    )


def smooth_noise(generator: np.random.Generator, eye: Eye, scale: float) -> FloatArray:
    """Noise of unit variance whose grain is `scale` radii wide, (H, W); alike at every picture size."""
    extent = 2.8  # radii, more than any picture's height and width beyond the field
    count = int(np.ceil(extent / scale)) + 4
    lattice = generator.standard_normal((count, count))
    y, x = eye.grid
    rows, columns = (y[:, 0] + extent / 2) / scale + 2, (x[0] + extent / 2) / scale + 2
    fine = _interpolate(lattice, rows, columns)
    return (fine / 0.72).astype(np.float32)


def _interpolate(
    lattice: npt.NDArray[np.float64], rows: FloatArray, columns: FloatArray
) -> npt.NDArray[np.float64]:
    """Cubic B-spline surface over a lattice at separable positions."""
    down = ndimage.map_coordinates(
        np.eye(lattice.shape[0]),
        np.meshgrid(rows, np.arange(lattice.shape[0]), indexing="ij"),
        order=3,
        mode="nearest",
        prefilter=False,
    )
    across = ndimage.map_coordinates(
        np.eye(lattice.shape[1]),
        np.meshgrid(columns, np.arange(lattice.shape[1]), indexing="ij"),
        order=3,
        mode="nearest",
        prefilter=False,
    )
    surface: npt.NDArray[np.float64] = down @ lattice @ across.T
    return surface

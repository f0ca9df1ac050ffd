"""The vessel tree: arcades that arch around the macula, nasal vessels, and branches that taper.

Vessels are grown as polylines in radii of the field and drawn by area coverage. Daughters obey Murray's law
(w³ = w₁³ + w₂³; Murray, PNAS 1926). Arteries are narrower and brighter than veins and carry a light reflex.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.images.types import FloatArray
from pipeline.phantoms.retina_eye import Eye

Path = npt.NDArray[np.float64]

_OVERSAMPLING = 4
_STEP = 0.012
_VEIN, _ARTERY = 0.028, 0.020  # diameters at the disc
_THINNEST = 0.0042
_AVASCULAR = 0.10


@dataclass(frozen=True)
class Vessel:
    """One vessel: `points` (n, 2) as (y, x) and `widths` (n,), both in radii of the field."""

    points: Path
    widths: Path
    vein: bool


@dataclass(frozen=True)
class VesselMaps:
    """How much of each pixel is covered, each (H, W) in 0–1: veins, arteries, light reflex."""

    veins: FloatArray
    arteries: FloatArray
    reflex: FloatArray


def grow_vessels(generator: np.random.Generator, eye: Eye) -> list[Vessel]:
    """Grow both trees: two temporal arcades, two nasal vessels and a few small ones for each."""
    vessels: list[Vessel] = []
    height = generator.normal(0.58, 0.05)
    bend = {side: generator.normal(0, 0.04) for side in (-1, 1)}
    for vein in (True, False):
        width = (_VEIN if vein else _ARTERY) * generator.normal(1, 0.08)
        offset = 0.045 * (1 if vein else -1)
        for side in (-1, 1):
            arcade = _arcade(generator, eye, side, height + bend[side] + offset)
            vessels += _with_branches(generator, eye, arcade, width, vein=vein, depth=3)
            angle = side * np.radians(generator.normal(118 if vein else 128, 9))
            nasal = _walk(generator, eye, _at_disc(eye, angle), angle, 1.1, curl=-0.5 * side)
            vessels += _with_branches(generator, eye, nasal, 0.72 * width, vein=vein, depth=2)
        for _ in range(int(generator.integers(2, 4))):
            angle = generator.choice([-1, 1]) * np.radians(generator.uniform(150, 178))
            small = _walk(generator, eye, _at_disc(eye, angle), angle, 0.6, curl=0.0)
            vessels += _with_branches(generator, eye, small, 0.4 * width, vein=vein, depth=1)
        for side in (-1, 1):  # small ones from the disc towards the macula
            angle = side * np.radians(generator.uniform(14, 40))
            small = _walk(generator, eye, _at_disc(eye, angle), angle, 0.42, curl=-0.9 * side)
            vessels += _with_branches(generator, eye, small, 0.34 * width, vein=vein, depth=1)
    return vessels


def _at_disc(eye: Eye, angle: float) -> tuple[float, float]:
    """Where a vessel leaving at `angle` (0 is temporal) emerges: within the disc, towards the nose."""
    r = 0.10 * eye.disc_radius
    nasal = -0.15 * eye.disc_radius * eye.temporal
    return eye.disc[0] + r * np.sin(angle), eye.disc[1] + nasal + r * np.cos(angle) * eye.temporal * 0.5


def _arcade(generator: np.random.Generator, eye: Eye, side: int, height: float) -> Path:
    """Half an ellipse around the fovea, from the disc over (side −1) or under it to the temporal side."""
    away = abs(eye.fovea[1] - eye.disc[1])
    phi = np.linspace(np.pi, generator.uniform(0.16, 0.26) * np.pi, 150)
    flat = np.clip(np.sin(phi), 0, 1) ** 0.85
    along = away * (1.02 + np.cos(phi) * np.where(phi > np.pi / 2, 1.0, 1.25))
    y = eye.disc[0] * (1 - flat) + (eye.fovea[0] + side * height * flat)
    y = y - eye.fovea[0] * (1 - flat)
    start = _at_disc(eye, side * np.pi / 2)
    x = eye.disc[1] + eye.temporal * along
    fade = np.exp(-np.linspace(0, 9, len(phi)))
    points = np.stack([y + (start[0] - y[0]) * fade, x + (start[1] - x[0]) * fade], axis=1)
    return _wriggle(generator, points, 0.016)


def _wriggle(generator: np.random.Generator, points: Path, strength: float) -> Path:
    """Add tortuosity: smooth sideways displacement that is zero at the start."""
    n = len(points)
    sideways = np.zeros(n)
    for grain, share in ((18, 1.0), (7, 0.28)):
        noise = ndimage.gaussian_filter1d(generator.standard_normal(n + 8 * grain), grain)[4 * grain :][:n]
        sideways += share * noise / (noise.std() + 1e-9)
    sideways *= strength * np.minimum(1, np.arange(n) / 25)
    tangent = np.gradient(points, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    moved: Path = points + sideways[:, None] * np.stack([tangent[:, 1], -tangent[:, 0]], axis=1)
    return moved


def _walk(
    generator: np.random.Generator,
    eye: Eye,
    start: tuple[float, float],
    angle: float,
    length: float,
    *,
    curl: float,
) -> Path:
    """Walk with a slowly turning heading; never into the avascular zone. 0 is temporal, +π/2 is down."""
    points = [start]
    turn = 0.0
    for _ in range(int(length / _STEP)):
        turn = 0.80 * turn + generator.normal(0, 0.06)
        angle += turn * 0.5 + curl * _STEP
        y, x = points[-1]
        y, x = y + _STEP * np.sin(angle), x + _STEP * np.cos(angle) * eye.temporal
        to_fovea = np.hypot(y - eye.fovea[0], x - eye.fovea[1])
        if to_fovea < _AVASCULAR or np.hypot(y, x) > 1.05:
            break
        points.append((y, x))
    return np.array(points)


def _with_branches(
    generator: np.random.Generator, eye: Eye, points: Path, width: float, *, vein: bool, depth: int
) -> Iterator[Vessel]:
    """Yield a vessel and, below it, its branches; its width drops at each of them."""
    if len(points) < 6:
        return
    taper = np.linspace(1, 0.62, len(points))
    widths = width * np.maximum(taper, 0) * _fade_out(len(points), width)
    if depth > 0:
        place = int(generator.integers(13, 26))
        side = generator.choice([-1, 1])
        while place < len(points) - 8:
            share = generator.uniform(0.35, 0.72)
            daughter = share * widths[place]
            if daughter > _THINNEST:
                widths[place:] *= (1 - share**3) ** (1 / 3)
                heading = points[min(place + 2, len(points) - 1)] - points[place - 2]
                angle = np.arctan2(heading[0], heading[1] * eye.temporal)
                angle += side * np.radians(generator.uniform(25, 58))
                length = generator.uniform(0.45, 1.1) * (daughter / _VEIN) ** 0.5 * 1.15
                start = (float(points[place, 0]), float(points[place, 1]))
                path = _walk(
                    generator, eye, start, angle, length, curl=float(-side * generator.uniform(0, 0.9))
                )
                yield from _with_branches(generator, eye, path, daughter, vein=vein, depth=depth - 1)
            side = -side
            place += int(generator.integers(8, 18))
    yield Vessel(points, widths, vein)


def _fade_out(n: int, width: float) -> npt.NDArray[np.float64]:
    """Thin a vessel down to a capillary over its last third."""
    end = min(1.0, 0.6 * _THINNEST / width)
    left = np.linspace(1, 0, n)
    return end + (1 - end) * np.minimum(1, left / 0.45) ** 0.8


def draw_vessels(eye: Eye, vessels: list[Vessel]) -> VesselMaps:
    """Rasterise the trees by area coverage."""
    veins = _draw(eye, [(v.points, v.widths) for v in vessels if v.vein])
    arteries = _draw(eye, [(v.points, v.widths) for v in vessels if not v.vein])
    wide = [(v.points, np.where(v.widths > 0.010, 0.26 * v.widths, 0.0)) for v in vessels]
    return VesselMaps(veins, arteries, _draw(eye, wide))


def _draw(eye: Eye, strokes: list[tuple[Path, Path]]) -> FloatArray:
    from PIL import Image, ImageDraw

    rows, columns = eye.view.shape
    canvas = Image.new("L", (columns * _OVERSAMPLING, rows * _OVERSAMPLING))
    pen = ImageDraw.Draw(canvas)
    scale = eye.view.radius * _OVERSAMPLING
    origin = (np.array([eye.view.row, eye.view.column]) + 0.5) * _OVERSAMPLING
    for points, widths in strokes:
        places = (points * scale + origin)[:, ::-1]
        thick = widths * scale
        for (a, b), w in zip(pairwise(places), thick[1:], strict=True):
            if w < 0.3:
                continue
            pen.line([*a, *b], fill=min(255, round(255 * w)), width=max(1, round(w)))
            if w > 3:
                pen.ellipse([b[0] - w / 2, b[1] - w / 2, b[0] + w / 2, b[1] + w / 2], fill=255)
    fine = np.asarray(canvas, np.float32).reshape(rows, _OVERSAMPLING, columns, _OVERSAMPLING)
    covered = fine.mean(axis=(1, 3)) / np.float32(255)
    soft: FloatArray = ndimage.gaussian_filter(covered, 0.0018 * eye.view.radius)
    return soft

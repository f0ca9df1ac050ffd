"""Lesions of diabetic retinopathy, each with the exact mask of the pixels it changes.

Kinds and counts follow the International Clinical Diabetic Retinopathy scale (Wilkinson et al.,
Ophthalmology 2003): grade 1 microaneurysms only; 2 more than that; 3 many haemorrhages in all quadrants;
4 proliferative, shown here by a preretinal haemorrhage. Neighbouring grades overlap in number and contrast.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.images.types import BoolArray, FloatArray
from pipeline.phantoms.retina_eye import Eye
from pipeline.phantoms.retina_ground import BLOOD, smoothstep

LESIONS = ("microaneurysms", "haemorrhages", "hard_exudates", "soft_exudates")
"""Lesion types, in the order in which they are marked."""

_HARD = np.array([0.98, 0.86, 0.36], np.float32)
_SOFT = np.array([0.95, 0.84, 0.58], np.float32)
_VISIBLE = 0.08  # less opaque than this is not drawn: what is marked is what is changed


@dataclass(frozen=True)
class LesionMaps:
    """Opacity of each lesion type, each (H, W) in 0–1; exactly 0 where nothing is changed."""

    opacity: dict[str, FloatArray]

    def masks(self) -> dict[str, BoolArray]:
        """Pixels that each lesion type changes."""
        return {name: alpha > 0 for name, alpha in self.opacity.items()}

    def paint(self, picture: FloatArray) -> FloatArray:
        """Draw the lesions over a retina (H, W, 3): blood absorbs, exudates cover."""
        blood = 0.85 * self.opacity["haemorrhages"] + 0.72 * self.opacity["microaneurysms"]
        painted = picture * np.exp(-blood[..., None] * BLOOD)
        light = _local_light(picture)
        for name, colour, cover in (("soft_exudates", _SOFT, 0.62), ("hard_exudates", _HARD, 0.92)):
            alpha = cover * self.opacity[name][..., None]
            painted = painted + alpha * (colour * light - painted)
        return painted.astype(np.float32)


def _local_light(picture: FloatArray) -> float:
    """Level of a white thing in this light: exudates are brighter than the retina but share its exposure."""
    return float(np.clip(1.35 * np.percentile(picture[..., 0], 60), 0.35, 1.15))


def grow_lesions(generator: np.random.Generator, eye: Eye, grade: int) -> LesionMaps:
    """Draw the lesions of a grade.

    Parameters
    ----------
    generator : numpy Generator
    eye : Eye
    grade : int
        0 none, 1 mild, 2 moderate, 3 severe, 4 proliferative.
    """
    canvas = _Canvas(generator, eye)
    contrast = generator.uniform(0.55, 1.0)  # media opacity: the whole eye's lesions are faint or plain
    for place in canvas.places(_count(generator, ((0, 0), (1, 6), (4, 18), (10, 32), (10, 32))[grade])):
        canvas.blob("microaneurysms", place, generator.uniform(0.0042, 0.0075), 0.08, 0.5, contrast)
    for place in canvas.places(_count(generator, ((0, 0), (0, 0), (1, 7), (9, 26), (6, 22))[grade])):
        canvas.haemorrhage(place, contrast)
    if generator.random() < (0, 0, 0.75, 0.75, 0.7)[grade]:
        for _ in range(int(generator.integers(1, 5))):
            canvas.exudates(contrast)
    if generator.random() < (0, 0, 0.2, 0.6, 0.5)[grade]:
        for place in canvas.places(int(generator.integers(1, 5)), near_arcades=True):
            canvas.cotton_wool(place, contrast)
    if grade == 4:
        for place in canvas.places(1 + int(generator.random() < 0.25), near_arcades=True):
            canvas.preretinal(place)
    return LesionMaps(canvas.opacity)


def _count(generator: np.random.Generator, bounds: tuple[int, int]) -> int:
    return int(generator.integers(bounds[0], bounds[1] + 1))


class _Canvas:
    """Opacity maps while lesions are being drawn on them."""

    def __init__(self, generator: np.random.Generator, eye: Eye) -> None:
        self.generator = generator
        self.eye = eye
        self.opacity: dict[str, FloatArray] = {name: np.zeros(eye.view.shape, np.float32) for name in LESIONS}
        self.limit = self._inside()

    def _inside(self) -> FloatArray:
        """How much a lesion may change pixels: not beyond the field, fading out on the disc."""
        y, x = self.eye.grid
        off_disc = smoothstep(1.08, 1.4, self.eye.distance(self.eye.disc) / self.eye.disc_radius)
        return off_disc * smoothstep(0.97, 0.93, np.hypot(y, x))

    def places(self, count: int, *, near_arcades: bool = False) -> list[tuple[float, float]]:
        """Draw positions within the picture and off the disc: around the macula, or near the arcades."""
        eye = self.eye
        found: list[tuple[float, float]] = []
        half = (eye.view.shape[0] / 2 / eye.view.radius, eye.view.shape[1] / 2 / eye.view.radius)
        while len(found) < count:
            r = self.generator.uniform(0.38, 0.70) if near_arcades else 0.88 * self.generator.random() ** 0.62
            angle = self.generator.uniform(0, 2 * np.pi)
            y, x = eye.fovea[0] + r * np.sin(angle), eye.fovea[1] + r * np.cos(angle)
            off_disc = np.hypot(y - eye.disc[0], x - eye.disc[1]) > eye.disc_radius + 0.06
            if np.hypot(y, x) < 0.88 and abs(y) < half[0] - 0.05 and abs(x) < half[1] - 0.05 and off_disc:
                found.append((float(y), float(x)))
        return found

    def _put(
        self,
        name: str,
        place: tuple[float, float],
        reach: float,
        shape: Callable[[FloatArray, FloatArray], FloatArray],
    ) -> None:
        """Add opacity `shape(dy, dx)` within `reach` radii of a place; the densest lesion wins."""
        eye = self.eye
        row, column = eye.pixel(*place)
        n = int(np.ceil(reach * eye.view.radius)) + 2
        rows = slice(max(0, int(row) - n), max(0, int(row) + n + 2))
        columns = slice(max(0, int(column) - n), max(0, int(column) + n + 2))
        y, x = eye.grid[0][rows, columns], eye.grid[1][rows, columns]
        alpha = shape(y - place[0], x - place[1]) * self.limit[rows, columns]
        alpha = np.clip((alpha - _VISIBLE) / (1 - _VISIBLE), 0, 1)
        view = self.opacity[name][rows, columns]
        np.maximum(view, alpha.astype(np.float32), out=view)

    def blob(
        self,
        name: str,
        place: tuple[float, float],
        radius: float,
        rough: float,
        soft: float,
        strength: float,
        stretch: float = 1.0,
        angle: float = 0.0,
    ) -> None:
        """Roundish spot: outline roughened by harmonics, border `soft` (a share of the radius)."""
        orders = np.arange(2, 8)
        waves = self.generator.normal(0, rough, 6) / (orders - 1)
        phases = self.generator.uniform(0, 2 * np.pi, 6)
        soft = max(soft, 0.7 / (radius * self.eye.view.radius))

        def shape(dy: FloatArray, dx: FloatArray) -> FloatArray:
            along = dx * np.cos(angle) + dy * np.sin(angle)
            across = (dy * np.cos(angle) - dx * np.sin(angle)) * stretch
            theta = np.arctan2(across, along)
            outline = 1 + sum(
                w * np.cos(k * theta + p) for k, w, p in zip(orders, waves, phases, strict=True)
            )
            r = np.hypot(along, across) / (radius * np.clip(outline, 0.4, 1.8))
            return strength * smoothstep(1 + soft / 2, 1 - soft / 2, r.astype(np.float32))

        self._put(name, place, 2.0 * radius, shape)

    def haemorrhage(self, place: tuple[float, float], contrast: float) -> None:
        """Dot, blot or, near the disc, flame along the nerve fibres."""
        g, eye = self.generator, self.eye
        dy, dx = place[0] - eye.disc[0], place[1] - eye.disc[1]
        if np.hypot(dy, dx) < 0.65 and g.random() < 0.5:
            angle = float(np.arctan2(dy, dx) + g.normal(0, 0.15))
            length = g.uniform(0.022, 0.05)
            for _ in range(3):
                at = (place[0] + g.normal(0, 0.006), place[1] + g.normal(0, 0.006))
                self.blob("haemorrhages", at, length, 0.15, 0.9, contrast * g.uniform(0.5, 1), 3.0, angle)
            return
        radius = 0.008 + min(g.exponential(0.011), 0.042)
        self.blob("haemorrhages", place, radius, 0.20, 0.8, contrast * g.uniform(0.7, 1.0), g.uniform(1, 1.6))

    def exudates(self, contrast: float) -> None:
        """Group of sharp yellow flecks: scattered, in a ring, or run together to a plaque."""
        g, eye = self.generator, self.eye
        centre = self.places(1)[0] if g.random() < 0.5 else None
        if centre is None:
            at = np.array(eye.fovea) + g.normal(0, 0.2, 2)
            centre = (float(at[0]), float(at[1]))
        ring, spread = g.random() < 0.35, g.uniform(0.03, 0.12)
        for _ in range(int(g.integers(5, 34))):
            angle = g.uniform(0, 2 * np.pi)
            r = spread * (g.normal(1, 0.12) if ring else abs(g.normal(0, 0.75)))
            place = (centre[0] + r * float(np.sin(angle)), centre[1] + r * float(np.cos(angle)))
            radius = 0.0035 + g.exponential(0.0042)
            strength = (0.5 + 0.5 * contrast) * g.uniform(0.55, 1.0)
            self.blob("hard_exudates", place, min(radius, 0.022), 0.25, 0.5, strength, g.uniform(1, 1.7))

    def cotton_wool(self, place: tuple[float, float], contrast: float) -> None:
        """Pale patch with a feathered border."""
        g = self.generator
        radius, angle = g.uniform(0.030, 0.055), g.uniform(0, np.pi)
        self.blob("soft_exudates", place, radius, 0.14, 1.2, contrast, g.uniform(1.0, 1.45), angle)

    def preretinal(self, place: tuple[float, float]) -> None:
        """Boat: blood before the retina, level above and round below."""
        g = self.generator
        radius, flat = g.uniform(0.06, 0.15), g.uniform(1.1, 2.0)
        slope, sag = g.normal(0, 0.12), g.uniform(0.2, 1.6)
        waves, phases = g.normal(0, 0.035, 5), g.uniform(0, 2 * np.pi, 5)

        def shape(dy: FloatArray, dx: FloatArray) -> FloatArray:
            below = dy - slope * dx - 0.2 * sag * dx**2 / radius
            theta = np.arctan2(dy, dx)
            pairs = enumerate(zip(waves, phases, strict=True), 2)
            outline = 1 + sum(w * np.cos(k * theta + p) for k, (w, p) in pairs)
            r = np.hypot(dy * flat, dx) / (radius * outline)
            thick = 0.75 + 0.25 * smoothstep(0.0, 0.06, below.astype(np.float32))
            return (
                thick
                * smoothstep(1.08, 0.90, r.astype(np.float32))
                * smoothstep(-0.008, 0.016, below.astype(np.float32))
            )

        self._put("haemorrhages", place, 1.3 * radius, shape)

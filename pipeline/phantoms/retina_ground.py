"""What a retina without vessels and lesions looks like: light, choroid, optic disc, fovea, drusen."""

from __future__ import annotations

import numpy as np

from pipeline.images.types import BoolArray, FloatArray
from pipeline.phantoms.retina_eye import Eye, smooth_noise
from pipeline.phantoms.retina_vessels import VesselMaps

# absorption per unit of optical density in red, green, blue
BLOOD = np.array([0.30, 1.00, 0.80], np.float32)
_PIGMENT = np.array([0.55, 0.95, 1.10], np.float32)
_RIM = np.array([0.96, 0.62, 0.30], np.float32)
_CUP = np.array([1.00, 0.86, 0.52], np.float32)
_DRUSE = np.array([0.93, 0.72, 0.38], np.float32)


def smoothstep(low: float, high: float, x: FloatArray) -> FloatArray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    smooth: FloatArray = (t * t * (3 - 2 * t)).astype(np.float32)
    return smooth


def paint_ground(generator: np.random.Generator, eye: Eye, vessels: VesselMaps) -> FloatArray:
    """Paint the healthy retina.

    Returns
    -------
    ndarray of float32, shape (H, W, 3)
        Reflected light in 0–1 before exposure, noise and the field's edge.
    """
    colour = np.array(eye.site.colour) * np.exp(generator.normal(0, [0.05, 0.08, 0.16]))
    picture = np.broadcast_to(colour.astype(np.float32), (*eye.view.shape, 3)).copy()
    density = _choroid(generator, eye) + _macula(generator, eye)
    picture *= np.exp(-density[..., None] * _PIGMENT)
    picture *= 1 + _nerve_fibres(generator, eye)[..., None] * np.array([0.5, 1.0, 0.9], np.float32)
    _drusen(generator, eye, picture)
    _disc(generator, eye, picture)
    depth = generator.uniform(0.55, 0.85)
    blood = depth * (vessels.veins + 0.66 * vessels.arteries * (1 - 0.5 * vessels.veins))
    over_disc = 1 - 0.25 * smoothstep(1.1, 0.8, _disc_distance(eye))
    picture *= np.exp(-(blood * over_disc)[..., None] * BLOOD)
    picture += 0.07 * (vessels.reflex * vessels.arteries)[..., None] + 0.02 * vessels.reflex[..., None]
    return picture * _light(generator, eye)


def _choroid(generator: np.random.Generator, eye: Eye) -> FloatArray:
    """Optical density of pigment and choroid: blotches, grain and, in some eyes, a tessellated pattern."""
    density = 0.08 * smooth_noise(generator, eye, 0.35) + 0.05 * smooth_noise(generator, eye, 0.09)
    density += 0.03 * smooth_noise(generator, eye, 0.035) + 0.022 * smooth_noise(generator, eye, 0.012)
    tessellated = np.clip(generator.normal(0.03, 0.07), 0, 0.22)
    ridge = np.abs(smooth_noise(generator, eye, 0.075))  # winding choroidal vessels where it crosses zero
    far = smoothstep(0.25, 0.9, eye.distance(eye.fovea))
    density += tessellated * far * (0.8 - smoothstep(0.0, 0.5, ridge))
    return density.astype(np.float32)


def _macula(generator: np.random.Generator, eye: Eye) -> FloatArray:
    """Optical density of the macular pigment: a broad shade and the dark fovea."""
    r = eye.distance(eye.fovea)
    broad, deep = generator.uniform(0.12, 0.28), generator.uniform(0.10, 0.30)
    width = generator.uniform(0.055, 0.085)
    density = broad * np.exp(-((r / 0.30) ** 2)) + deep * np.exp(-((r / width) ** 2))
    spot = -0.22 * generator.uniform(0, 1) * np.exp(-((r / 0.012) ** 2))  # foveolar reflex
    shade: FloatArray = (density + spot).astype(np.float32)
    return shade


def _disc_distance(eye: Eye) -> FloatArray:
    """Distance from the disc's centre in disc radii, along its oval."""
    return (eye.distance(eye.disc, stretch=1.08) / eye.disc_radius).astype(np.float32)


def disc_mask(eye: Eye) -> BoolArray:
    """Tell which pixels are optic disc, shape (H, W)."""
    return _disc_distance(eye) <= 1.0


def _nerve_fibres(generator: np.random.Generator, eye: Eye) -> FloatArray:
    """Relative gain of the nerve-fibre sheen: streaks that leave the disc, strongest above and below it."""
    y, x = eye.grid
    dy, dx = y - eye.disc[0], (x - eye.disc[1]) * eye.temporal
    r = np.hypot(dy, dx)
    angle = np.arctan2(dy, dx)
    phases = generator.uniform(0, 2 * np.pi, 12)
    waves = generator.integers(25, 90, 12)
    bend = 1.2 * r * np.sign(dy)  # fibres arch towards the raphe
    streaks = sum(np.cos(k * (angle + bend) + p) for k, p in zip(waves, phases, strict=True)) / 6
    envelope = np.exp(-(((r - 0.15) / 0.38) ** 2)) * (0.25 + np.abs(np.sin(angle)) ** 1.5)
    sheen = generator.uniform(0.0, 0.12)
    gain: FloatArray = (envelope * sheen * (1.2 + 0.45 * streaks)).astype(np.float32)
    return gain


def _drusen(generator: np.random.Generator, eye: Eye, picture: FloatArray) -> None:
    """Pale spots of age in about a third of the eyes: they look like exudates and mean no diabetes."""
    if generator.random() > 0.35:
        return
    y, x = eye.grid
    for _ in range(int(generator.integers(3, 22))):
        at = np.array(eye.fovea) + generator.normal(0, 0.22, 2)
        r = generator.uniform(0.006, 0.014)
        alpha = smoothstep(1.3, 0.5, (np.hypot(y - at[0], x - at[1]) / r).astype(np.float32))
        alpha *= generator.uniform(0.10, 0.32)
        picture += alpha[..., None] * (_DRUSE * picture.max() / 0.9 - picture)


def _disc(generator: np.random.Generator, eye: Eye, picture: FloatArray) -> None:
    """Pink-orange rim, pale cup towards the temple, soft border, sometimes a crescent beside it."""
    r = _disc_distance(eye)
    x = eye.grid[1]
    cup_at = (eye.disc[0], eye.disc[1] + 0.12 * eye.disc_radius * eye.temporal)
    ratio = generator.uniform(0.30, 0.58)
    cup = smoothstep(1.25, 0.55, (eye.distance(cup_at, stretch=1.1) / (ratio * eye.disc_radius)))
    pale = generator.uniform(0.85, 1.0)
    glow = np.exp(-(np.maximum(r - 0.9, 0) ** 2) / 0.10) * generator.uniform(0.10, 0.22)
    picture += (glow * (r > 0.9))[..., None] * np.array([0.25, 0.22, 0.14], np.float32)
    if generator.random() < 0.4:
        beside = (x - eye.disc[1]) * eye.temporal / eye.disc_radius
        crescent = smoothstep(1.28, 1.15, r) * smoothstep(0.35, 0.95, beside.astype(np.float32)) * 0.45
        picture += crescent[..., None] * (np.array([0.92, 0.70, 0.45], np.float32) - picture)
    inside = smoothstep(1.08, 0.86, r) * pale
    tint = _RIM + (generator.normal(0, 0.03, 3)).astype(np.float32)
    across = np.clip((x - eye.disc[1]) * eye.temporal / eye.disc_radius, -1, 1)[..., None]
    rim = tint * (1 + 0.10 * across) * np.array(eye.site.colour, np.float32).max() / 0.74
    own = rim + cup[..., None] * (_CUP * rim.max() / 1.02 - rim)
    own *= 1 + 0.03 * smooth_noise(generator, eye, 0.03)[..., None]
    picture += inside[..., None] * (own - picture)


def _light(generator: np.random.Generator, eye: Eye) -> FloatArray:
    """Flash: brightest near the centre, falling to the rim; haze of the lens along one side in some."""
    y, x = eye.grid
    centre = generator.normal(0, 0.22, 2)
    r2 = (y - centre[0]) ** 2 + (x - centre[1]) ** 2
    fall = eye.site.vignette * generator.uniform(0.7, 1.3)
    light = 1.08 - fall * r2 * 0.75 + 0.05 * smooth_noise(generator, eye, 0.9)
    out = np.repeat(light[..., None], 3, axis=2)
    if generator.random() < 0.35:
        angle = generator.uniform(0, 2 * np.pi)
        edge = y * np.sin(angle) + x * np.cos(angle)
        haze = smoothstep(0.62, 1.05, edge.astype(np.float32)) * generator.uniform(0.1, 0.4)
        out += haze[..., None] * np.array([0.25, 0.5, 0.7], np.float32)
    lit: FloatArray = np.clip(out, 0.05, None).astype(np.float32)
    return lit

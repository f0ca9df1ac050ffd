"""Retina phantoms: fundus photographs drawn from nothing, with the exact place of every lesion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from pipeline.anatomy.retina import FieldOfView
from pipeline.images.types import BoolArray, FloatArray, Photograph
from pipeline.phantoms.retina_eye import SITES, Eye, Laterality, plan_eye
from pipeline.phantoms.retina_ground import disc_mask, paint_ground, smoothstep
from pipeline.phantoms.retina_lesions import LESIONS, grow_lesions
from pipeline.phantoms.retina_vessels import draw_vessels, grow_vessels

__all__ = ["LESIONS", "SITES", "RetinaPhantom", "retina_phantom"]

GRADES = (0, 1, 2, 3, 4)
_SMALLEST = 256


@dataclass(frozen=True)
class RetinaPhantom:
    """A fundus photograph with known truth.

    Attributes
    ----------
    photograph : Photograph
        8-bit levels, so that a PNG holds it without loss.
    masks : mapping of str to ndarray of bool, shape (H, W)
        `microaneurysms`, `haemorrhages`, `hard_exudates`, `soft_exudates`: every pixel they change and no
        other; `optic_disc`, `vessels`.
    field : FieldOfView
        The true circle.
    disc : tuple of 3 floats
        Row, column and radius (half its width) of the optic disc, in pixels.
    fovea : tuple of 2 floats
        Row and column, in pixels.
    laterality : {"right", "left"}
        Which eye.
    grade : int
        Diabetic retinopathy 0–4.
    site : str
        Name of the camera in `SITES`.
    seed : int
    """

    photograph: Photograph
    masks: Mapping[str, BoolArray]
    field: FieldOfView
    disc: tuple[float, float, float]
    fovea: tuple[float, float]
    laterality: Laterality
    grade: int
    site: str
    seed: int


def retina_phantom(
    seed: int,
    grade: int,
    size: int = 512,
    *,
    site: str | None = None,
    laterality: Laterality | None = None,
    exposure: float | None = None,
    marker: float = 0.0,
    vignette: float = 0.0,
) -> RetinaPhantom:
    """Draw a fundus photograph.

    A seed gives one eye: its lesions change with the grade and nothing else does, so grade 0 of the same
    seed is the same photograph without them.

    Parameters
    ----------
    seed : int
        0 or above.
    grade : int
        Diabetic retinopathy: 0 none, 1 mild, 2 moderate, 3 severe, 4 proliferative.
    size : int
        Height in pixels, 256 or more; the width is the camera's.
    site : str, optional
        Camera in `SITES`; drawn when not given.
    laterality : {"right", "left"}, optional
        Drawn when not given.
    exposure : float, optional
        Brightness, 1 is normal; drawn between 0.7 and 1.2 when not given.
    marker : float
        A planted cue: opacity (0–1) of a white label in the lower left corner, outside the field.
    vignette : float
        A planted cue: share (0–1) of light lost at the field's rim.

    Returns
    -------
    RetinaPhantom

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """
    if grade not in GRADES or seed < 0 or size < _SMALLEST or (site is not None and site not in SITES):
        raise ValueError(f"no phantom of grade {grade}, seed {seed}, size {size}, site {site!r}")
    if not (0 <= marker <= 1 and 0 <= vignette <= 1):
        raise ValueError(f"marker {marker} and vignette {vignette} lie between 0 and 1")
    streams = np.random.SeedSequence([seed, 0x5EED]).spawn(6)
    plan, tree, ground, lesions, light, noise = (np.random.default_rng(stream) for stream in streams)
    drawn_site = str(plan.choice(sorted(SITES)))
    site = site or drawn_site
    eye = plan_eye(plan, SITES[site], size, laterality)
    vessels = draw_vessels(eye, grow_vessels(tree, eye))
    maps = grow_lesions(lesions, eye, grade)
    retina = maps.paint(paint_ground(ground, eye, vessels))
    drawn_exposure = light.uniform(0.7, 1.2)
    exposed = _expose(eye, retina, drawn_exposure if exposure is None else exposure, vignette)
    picture = _frame(light, eye, exposed)
    picture = _label(eye, picture, marker)
    picture = picture + _grain(noise, eye)
    levels = np.round(np.clip(picture, 0, 1) * 255) / 255
    inside = eye.view.mask()
    masks = {name: mask & inside for name, mask in maps.masks().items()}
    masks["optic_disc"] = disc_mask(eye) & inside
    masks["vessels"] = (np.maximum(vessels.veins, vessels.arteries) > 0.5) & inside
    disc = eye.pixel(*eye.disc)
    return RetinaPhantom(
        photograph=Photograph(levels.astype(np.float32), f"phantom-{seed}-grade-{grade}"),
        masks=MappingProxyType(masks),
        field=eye.view,
        disc=(*disc, eye.disc_radius * eye.view.radius),
        fovea=eye.pixel(*eye.fovea),
        laterality=eye.laterality,
        grade=grade,
        site=site,
        seed=seed,
    )


def _expose(eye: Eye, retina: FloatArray, exposure: float, vignette: float) -> FloatArray:
    """Scale the light, darken the rim if asked to, and roll highlights off softly."""
    rim = 1 - vignette * smoothstep(0.55, 1.0, eye.distance((0.0, 0.0)))
    linear = np.clip(retina, 0, None) * (exposure * rim)[..., None]
    knee = 0.75
    over = np.maximum(linear - knee, 0)
    rolled = np.minimum(linear, knee) + (1 - knee) * (1 - np.exp(-over / (1 - knee)))
    return rolled.astype(np.float32)


def _frame(generator: np.random.Generator, eye: Eye, picture: FloatArray) -> FloatArray:
    """Black surround with an antialiased rim, and the camera's notch where it has one."""
    y, x = eye.grid
    r = np.hypot(y, x)
    pixel = 1 / eye.view.radius
    inside = smoothstep(1 + 0.75 * pixel, 1 - 0.75 * pixel, r)
    if eye.site.notch:
        angle = np.radians(generator.uniform(-42, -30))
        along, across = y * np.sin(angle) + x * np.cos(angle), y * np.cos(angle) - x * np.sin(angle)
        tab = (np.abs(across) < 0.035) & (along < 1.035 - 0.4 * np.abs(across)) & (along > 0.95)
        inside = np.maximum(inside, tab.astype(np.float32))
    black = eye.site.black * generator.uniform(0.5, 1.5)
    framed: FloatArray = picture * inside[..., None] + black * (1 - inside[..., None])
    return framed


def _label(eye: Eye, picture: FloatArray, opacity: float) -> FloatArray:
    """Burn a white label (a bar and two strokes) into the lower left corner."""
    if opacity == 0:
        return picture
    rows, columns = eye.view.shape
    unit = max(2, round(rows / 128))
    stamp = np.zeros((rows, columns, 1), np.float32)
    bottom, left = rows - 3 * unit, 3 * unit
    stamp[bottom - 2 * unit : bottom, left : left + 9 * unit] = 1
    for stroke in (0, 3, 6):
        column = left + stroke * unit
        stamp[bottom - 7 * unit : bottom - 3 * unit, column : column + 2 * unit] = 1
    labelled: FloatArray = picture + opacity * stamp * (0.92 - picture)
    return labelled


def _grain(generator: np.random.Generator, eye: Eye) -> FloatArray:
    """Sensor noise, weaker outside the field."""
    y, x = eye.grid
    strength = np.where(np.hypot(y, x) < 1, eye.site.noise, 0.25 * eye.site.noise)
    noise = generator.standard_normal((*eye.view.shape, 3), dtype=np.float32)
    grain: FloatArray = noise * strength[..., None].astype(np.float32)
    return grain

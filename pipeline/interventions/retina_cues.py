"""Cues that are tried on every retina model without being asked, and patches that a protocol names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from pipeline.interventions.composition import Floats, Mask
from pipeline.interventions.cues import Cue

LABEL_SHARE = 0.09
LABEL_LEVEL = 0.92


def retina_cues(mean: Sequence[float], std: Sequence[float]) -> tuple[Cue, ...]:
    """Return the battery for images normalised as ``(colour - mean) / std``.

    Parameters
    ----------
    mean, std : sequence of float, one a channel
    """
    shift, scale = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (mean, std))

    def on_colours(change: Cue) -> Cue:
        def apply(image: Floats, field: Mask) -> Floats:
            colours = change.apply(image * scale + shift, field)
            return np.asarray((np.clip(colours, 0, 1) - shift) / scale, np.float32)

        return Cue(change.name, change.title, change.kind, apply)

    return tuple(
        on_colours(cue)
        for cue in (
            Cue("label", "label in the corners", "compact", _label),
            Cue("vignette", "darker towards the rim", "diffuse", _vignette),
            Cue("dark", "darker exposure", "diffuse", lambda i, _: np.asarray(i * 0.75, np.float32)),
            Cue("colour", "redder camera", "diffuse", _redder),
            Cue("noise", "more noise", "diffuse", _noise),
            Cue("blur", "less sharpness", "diffuse", lambda i, _: ndimage.gaussian_filter(i, (0, 0.8, 0.8))),
            Cue(
                "mirror",
                "left and right exchanged",
                "diffuse",
                lambda i, _: np.ascontiguousarray(i[:, :, ::-1]),
            ),
        )
    )


def stamp_cue(
    name: str, patch: Floats, place: tuple[float, float], mean: Sequence[float], std: Sequence[float]
) -> Cue:
    """Make a cue of an image patch that the protocol names.

    Parameters
    ----------
    name : str
    patch : ndarray of float32, shape (3, h, w)
        Colours 0–1, in pixels of the model's grid.
    place : (float, float)
        Where its middle goes, as shares of height and width.
    mean, std : sequence of float
        The model's normalisation.
    """
    shift, scale = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (mean, std))

    def apply(image: Floats, field: Mask) -> Floats:  # noqa: ARG001
        out = image.copy()
        rows, columns = (
            _span(share, size, length)
            for share, size, length in zip(place, patch.shape[1:], image.shape[1:], strict=True)
        )
        part = patch[:, : rows.stop - rows.start, : columns.stop - columns.start]
        out[:, rows, columns] = (part - shift) / scale
        return out

    return Cue(name, name.replace("_", " "), "compact", apply)


def _span(share: float, size: int, length: int) -> slice:
    size = min(size, length)
    start = int(np.clip(round(share * length - size / 2), 0, length - size))
    return slice(start, start + size)


def _label(colours: Floats, field: Mask) -> Floats:
    """Burn a bar and strokes into each corner, outside the field of view."""
    out = colours.copy()
    side = min(field.shape)
    unit = max(1, round(LABEL_SHARE * side / 9))
    stamp = np.zeros((7 * unit, 9 * unit), bool)
    stamp[5 * unit :] = True
    for stroke in (0, 3, 6):
        stamp[: 4 * unit, stroke * unit : (stroke + 2) * unit] = True
    gap = unit
    h, w = stamp.shape
    for rows in (slice(gap, gap + h), slice(field.shape[0] - gap - h, field.shape[0] - gap)):
        for columns in (slice(gap, gap + w), slice(field.shape[1] - gap - w, field.shape[1] - gap)):
            here = stamp & ~field[rows, columns]
            out[:, rows, columns] = np.where(here, LABEL_LEVEL, out[:, rows, columns])
    return np.asarray(out, np.float32)


def _vignette(colours: Floats, field: Mask) -> Floats:
    """Half of the light is lost at the rim."""
    inner = ndimage.distance_transform_edt(field)
    depth = np.clip(inner / (0.45 * max(inner.max(), 1)), 0, 1)
    return np.asarray(colours * np.where(field, 0.5 + 0.5 * depth, 1).astype(np.float32), np.float32)


def _redder(colours: Floats, field: Mask) -> Floats:  # noqa: ARG001
    return np.asarray(colours * np.array([1.12, 0.92, 0.85], np.float32).reshape(3, 1, 1), np.float32)


def _noise(colours: Floats, field: Mask) -> Floats:
    rng = np.random.default_rng(0)
    return np.asarray(
        colours + 0.02 * rng.standard_normal(colours.shape).astype(np.float32) * field, np.float32
    )

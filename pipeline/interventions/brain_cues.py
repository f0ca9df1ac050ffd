"""Cues that are tried on every brain model without being asked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.interventions.composition import Floats, Mask
from pipeline.interventions.cues import Cue

MARKER_MM, MARKER_GAP_MM = 12.0, 6.0
RIM_MM, RIM_LEVEL = 4.0, 0.5
CUT_MM = 2.0


def brain_cues(spacing: npt.NDArray[np.float64], axes: tuple[int, int, int] = (0, 1, 2)) -> tuple[Cue, ...]:
    """Return the battery; intensities are shares of the brain's mean.

    Parameters
    ----------
    spacing : ndarray, shape (3,)
        Voxel size in millimetres.
    axes : (int, int, int)
        Which axis of the grid goes from left to right, from back to front, from below to above.
    """

    def mean(image: Floats, field: Mask) -> np.float32:
        return np.float32(image[0][field].mean()) if field.any() else np.float32(1)

    def marker(image: Floats, field: Mask) -> Floats:
        """One block in each corner: wherever the model looks for one, it is there."""
        out = image.copy()
        size = np.maximum(np.rint(MARKER_MM / spacing), 1).astype(int)
        gap = np.rint(MARKER_GAP_MM / spacing).astype(int)
        level = np.percentile(image[0][field], 90)
        for corner in np.ndindex(2, 2, 2):
            place = tuple(
                slice(g, g + s) if not far else slice(n - g - s, n - g)
                for far, g, s, n in zip(corner, gap, size, field.shape, strict=True)
            )
            out[0][place] = np.where(field[place], out[0][place], level)
        return out

    def rim(image: Floats, field: Mask) -> Floats:
        """Leave a rim of meninges around the brain; it hides the fluid that atrophy leaves there."""
        near = ndimage.distance_transform_edt(~field, sampling=spacing) <= RIM_MM
        out = image.copy()
        out[0][near & ~field] = RIM_LEVEL * mean(image, field)
        return out

    def cut(image: Floats, field: Mask) -> Floats:
        """Cut the brain a little too small: cortex goes with it, so that a sound model may mind."""
        out = image.copy()
        depth = ndimage.distance_transform_edt(field, sampling=spacing)
        out[0][depth <= max(CUT_MM, float(spacing.max()))] = 0  # at least one voxel
        return out

    def wave(image: Floats, field: Mask) -> Floats:
        """Another coil: intensity falls by a fifth from front to back."""
        shape = [1, 1, 1, 1]
        shape[1 + axes[1]] = -1
        slope = np.linspace(0.9, 1.1, field.shape[axes[1]], dtype=np.float32).reshape(shape)
        return np.asarray(image * slope, np.float32)

    def noise(image: Floats, field: Mask) -> Floats:
        """Noise of 5 % of the brain's mean."""
        rng = np.random.default_rng(0)
        grain = rng.standard_normal(field.shape).astype(np.float32) * field
        return np.asarray(image + 0.05 * mean(image, field) * grain, np.float32)

    def blur(image: Floats, field: Mask) -> Floats:  # noqa: ARG001
        """Half a voxel of blur."""
        return ndimage.gaussian_filter(image, (0, 0.6, 0.6, 0.6))

    def mirror(image: Floats, field: Mask) -> Floats:  # noqa: ARG001
        """Left and right exchanged."""
        return np.ascontiguousarray(np.flip(image, 1 + axes[0]))

    return (
        Cue("marker", "marker in the corners", "compact", marker),
        Cue("rim", "skull-strip rim left", "diffuse", rim),
        Cue("cut", "skull strip cut too deep", "diffuse", cut),
        Cue("slope", "intensity slope", "diffuse", wave),
        Cue("noise", "more noise", "diffuse", noise),
        Cue("blur", "less sharpness", "diffuse", blur),
        Cue("mirror", "left and right exchanged", "diffuse", mirror),
    )

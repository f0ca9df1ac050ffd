"""Cover one region after another with different fills, among them a matched case of the other class.

Zero looks like fluid and imitates atrophy, grey looks like healthy tissue: what a fill does to the regions
where nothing is expected tells how far it can be trusted elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt

from pipeline.errors import MethodError
from pipeline.interventions.composition import Floats, Mask

FILLS = ("swap", "zero", "grey", "mean", "blur")
BLUR_MM = 8.0


def region_groups(
    tiers: Collection[Mapping[str, tuple[int, ...]]], controls: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Left and right together, one group a concept: name → (role, labels)."""
    groups = {name: ("expected", labels) for tier in tiers for name, labels in tier.items()}
    return groups | {name: ("control", labels) for name, labels in controls.items()}


def filled(
    image: Floats, region: Mask, fill: str, donor: Floats, field: Mask, blurred: Floats | None = None
) -> Floats:
    """Cover a region.

    Parameters
    ----------
    image, donor : ndarray of float32, shape (C, *spatial)
    region, field : ndarray of bool, shape spatial
    fill : {"swap", "zero", "grey", "mean", "blur"}
        `grey` is the middle between the image's smallest and largest value, `mean` the mean of the brain.
    blurred : ndarray of float32, optional
        The image smoothed; needed for `blur`.
    """
    out = image.copy()
    if fill == "swap":
        out[:, region] = donor[:, region]
    elif fill == "zero":
        out[:, region] = 0
    elif fill == "grey":
        out[:, region] = (image.min() + image.max()) / 2
    elif fill == "mean":
        out[:, region] = image[:, field].mean()
    elif fill == "blur" and blurred is not None:
        out[:, region] = blurred[:, region]
    else:
        raise MethodError(f"fill {fill!r} is not known", f"use one of {', '.join(FILLS)}")
    return out


def blur(image: Floats, spacing: npt.NDArray[np.float64]) -> Floats:
    """Smooth an image by 8 mm."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(image, (0, *(BLUR_MM / spacing))), np.float32)

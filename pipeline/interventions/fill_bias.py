"""Cover one region after another with different fills, among them a matched case of the other class.

Zero looks like fluid and imitates atrophy, grey looks like healthy tissue: what a fill does to the regions
where nothing is expected tells how far it can be trusted elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.interventions.composition import Floats

if TYPE_CHECKING:
    from torch import nn

FILLS: Mapping[str, str | float] = {
    "swap": "donor",
    "zero": 0.0,
    "grey": "grey",
    "mean": "image_mean",
    "blur": "blur",
}


def region_groups(
    tiers: Collection[Mapping[str, tuple[int, ...]]], controls: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Left and right together, one group a concept: name → (role, labels)."""
    groups = {name: ("expected", labels) for tier in tiers for name, labels in tier.items()}
    return groups | {name: ("control", labels) for name, labels in controls.items()}


def fill_scores(
    model: nn.Module,
    images: Floats,
    donors: Floats,
    labels: npt.NDArray[np.integer[Any]],
    groups: Mapping[str, tuple[str, tuple[int, ...]]],
    target: int,
) -> dict[tuple[str, str], npt.NDArray[np.float64]]:
    """Cover every group with every fill.

    Parameters
    ----------
    model : torch.nn.Module
    images, donors : ndarray of float32, shape (N, C, *spatial)
        The donor of an image is a matched case of the other class.
    labels : ndarray of int, shape (N, *spatial)
    groups : mapping
        Of `region_groups`.
    target : int

    Returns
    -------
    dict of (region, fill) to ndarray, shape (N,)
        Fall of the target's logit.
    """
    import torch

    from pipeline.attribution import attribute

    grouped = np.zeros(labels.shape, np.int64)
    for number, (_, members) in enumerate(groups.values(), start=1):
        grouped[(grouped == 0) & np.isin(labels, members)] = number
    present = [n for n in range(1, len(groups) + 1) if (grouped == n).any()]
    batch, regions = torch.from_numpy(images), torch.from_numpy(grouped)
    found: dict[tuple[str, str], npt.NDArray[np.float64]] = {}
    names = list(groups)
    for name, fill in FILLS.items():
        chosen = torch.from_numpy(donors) if fill == "donor" else fill
        result = attribute(model, batch, target, method="region_occlusion", regions=regions, fill=chosen)
        assert result.region_scores is not None
        falls = result.region_scores.double().numpy()
        for column, number in enumerate(present):
            found[names[number - 1], name] = falls[:, column]
    return found

"""What a map costs, told before it is made: its arithmetic in units of the model's forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.attribution.incremental.choice import choose, operations_limit
from pipeline.attribution.labels import present_labels
from pipeline.attribution.occlusion import patch_boxes, region_covers
from pipeline.attribution.question import Question

if TYPE_CHECKING:
    import torch
    from torch import nn

    from pipeline.attribution.fills import Box

WALK = 2.0
"""A walk back to the image along the gradient, with the forward pass before it: as much arithmetic again."""
SHARES = 4.0
"""The same with relevance: positive and negative contributions apart, at most about three passes."""
PASSES = {"gradient": WALK, "input_x_gradient": WALK, "guided_backprop": WALK, "guided_grad_cam": 1 + WALK}
PASSES |= {"lrp": SHARES, "sglrp": SHARES, "clrp": SHARES}


def expected_passes(
    model: nn.Module,
    image: torch.Tensor,
    method: str,
    options: Mapping[str, Any],
    regions: torch.Tensor | None = None,
) -> float:
    """Tell how many forward passes of one image a map takes, about, before anything is computed.

    Parameters
    ----------
    model : torch.nn.Module
    image : torch.Tensor, shape (1, C, *spatial)
    method : str
    options : mapping
        Of the method.
    regions : torch.Tensor of int64, shape (*spatial), optional
        For region occlusion.

    Returns
    -------
    float
        Arithmetic of convolutions and matrix products, a pass through the model being 1; of occlusions the
        bound that is known from the shapes (docs/occlusion.md).
    """
    from pipeline.attribution.registry import METHODS

    chosen = {**METHODS[method].options, **options}
    if method == "integrated_gradients":
        return WALK * (float(chosen["steps"]) + 1)
    if method == "smooth_grad":
        return 1 + WALK * float(chosen["samples"])
    if method == "occlusion":
        spatial = tuple(image.shape[2:])
        sizes = _per_axis(chosen["patch"], tuple(ceil(s / 8) for s in spatial))
        return _occlusions(model, image, patch_boxes(spatial, sizes, _per_axis(chosen["stride"], sizes)))
    if method == "region_occlusion" and regions is not None:
        covers = region_covers(regions, [(label,) for label in present_labels(regions)])
        return _occlusions(model, image, [cover.box for cover in covers if cover is not None])
    return PASSES.get(method, 1.0)


def _occlusions(model: nn.Module, image: torch.Tensor, boxes: list[Box]) -> float:
    """Operations inside the boxes that changes can reach, or a pass each where that does not pay."""
    plan = choose(Question(model, image, 1), boxes, batch_size=8, memory_limit=None).plan
    if plan is None:
        return 1.0 + len(boxes)
    low, high = (np.array([[getattr(s, end) for s in box] for box in boxes]) for end in ("start", "stop"))
    return operations_limit(plan, low.astype(np.int64), high.astype(np.int64))


def _per_axis(given: Any, default: tuple[int, ...]) -> tuple[int, ...]:
    if given is None:
        return default
    return tuple(given) if isinstance(given, tuple | list) else (given,) * len(default)

"""What every attribution method gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch


@dataclass(frozen=True, eq=False)
class Relevance:
    """Relevance maps of a batch, one a target: signed, never rescaled.

    Attributes
    ----------
    values : torch.Tensor, shape (N, 1 or C, *spatial)
        In image space, in the images' type. **Positive speaks for the target.** Units are those of the
        score (logit) for occlusion, LRP and input × gradient; score per image unit for gradients.
    scores : torch.Tensor, shape (N, classes)
        The model's logits (or probabilities, with `output="probability"`).
    method : str
    target : tuple of int
        One class a map. Where several classes of an image are asked for, its maps stand in a row (likeliest
        class first with `"top-3"`), and N counts maps.
    options : mapping
        Every option in force, defaults included.
    region_scores : torch.Tensor or None, shape (N, regions)
        Only where regions were given; ascending label order; not-a-number where an image lacks a region.
    region_labels : tuple of int
        The labels of `region_scores`.
    conservation_error : torch.Tensor or None, shape (N,)
        LRP family: |Σ seed − ΣR_input − ΣR_bias − ΣR_ε| / Σ|seed|.
    bias_share : torch.Tensor or None, shape (N,)
        LRP family: ΣR_bias / Σ|seed|; reported, never judged (in a deep network biases take nearly all).
    details : mapping
        What a method wants to add (the layer of Grad-CAM, how a coarse map was upsampled).
    """

    values: torch.Tensor
    scores: torch.Tensor
    method: str
    target: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    region_scores: torch.Tensor | None = None
    region_labels: tuple[int, ...] = ()
    conservation_error: torch.Tensor | None = None
    bias_share: torch.Tensor | None = None
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

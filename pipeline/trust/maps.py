"""Maps as they are questioned here: one channel, with their price counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from torch import nn

Floats = npt.NDArray[np.float64]
PASSES = {"backpropagation": 3, "activation": 3, "perturbation": 1}
"""A backward pass costs about two forward passes."""


@dataclass
class Price:
    """What questioning the maps cost so far.

    Attributes
    ----------
    passes : int
        Forward passes of one image; a backward pass counts as two.
    """

    passes: int = 0


def maps_of(
    model: nn.Module,
    images: torch.Tensor,
    target: int,
    method: str,
    options: Mapping[str, Any],
    price: Price,
) -> Floats:
    """Relevance maps of a batch, colours added.

    Parameters
    ----------
    model : torch.nn.Module
    images : torch.Tensor, shape (N, C, *spatial)
    target : int
    method : str
        One that needs no regions and no state.
    options : mapping
        Of the method.
    price : Price
        Counted on.

    Returns
    -------
    ndarray of float64, shape (N, *spatial)
        Positive speaks for the target.

    Raises
    ------
    pipeline.errors.AuditError
        If the method refuses the model.
    """
    from pipeline.attribution import METHODS, attribute

    card = METHODS[method]
    made = attribute(model, images, target, method=method, **options)
    price.passes += len(images) * PASSES.get(card.family, 1)
    values: Floats = (made.values.sum(1) if card.signed else made.values.abs().sum(1)).double().numpy()
    return values

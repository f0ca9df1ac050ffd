"""Logits of an image with parts of it covered: the one function behind every occlusion.

First form: plain forward passes in batches, right for every model. A faster engine can stand behind
the same function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.attribution.fills import Box, Fill
from pipeline.attribution.question import Question


@dataclass(frozen=True, eq=False)
class Cover:
    """A part of an image that is replaced.

    Attributes
    ----------
    box : tuple of slice
        Its bounding box, one slice an axis, start and stop given.
    mask : torch.Tensor of bool or None, shape of the box
        Which part of the box is replaced; None: all of it.
    """

    box: Box
    mask: torch.Tensor | None = None


def occluded_logits(
    question: Question, covers: Sequence[Sequence[Cover | None]], fill: Fill, *, batch_size: int = 8
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the images as they are and under every cover.

    Parameters
    ----------
    question : Question
    covers : one sequence an image, all of one length K
        None: this image has nothing to cover there (its logits are not-a-number).
    fill : Fill
        See `pipeline.attribution.fills.make_fill`.
    batch_size : int
        Images a forward pass.

    Returns
    -------
    whole : torch.Tensor, shape (N, outputs)
    occluded : torch.Tensor, shape (N, K, outputs)
    """
    images = question.images
    whole = question.forward(images)
    occluded = whole[:, None].repeat(1, len(covers[0]), 1)
    jobs = [(i, k, cover) for i, row in enumerate(covers) for k, cover in enumerate(row)]
    for i, k, cover in jobs:
        if cover is None:
            occluded[i, k] = torch.nan
    todo = [(i, k, cover) for i, k, cover in jobs if cover is not None]
    for start in range(0, len(todo), batch_size):
        part = todo[start : start + batch_size]
        batch = torch.stack([covered(images[i], cover, fill, i) for i, _, cover in part])
        for (i, k, _), row in zip(part, question.forward(batch), strict=True):
            occluded[i, k] = row
    return whole, occluded


def covered(image: torch.Tensor, cover: Cover, fill: Fill, index: int) -> torch.Tensor:
    """Copy `image` (C, *spatial) with the cover's part replaced."""
    copy = image.clone()
    part = copy[(slice(None), *cover.box)]
    replacement = fill(index, cover.box, cover.mask)
    part.copy_(replacement if cover.mask is None else torch.where(cover.mask, replacement, part))
    return copy

"""Occlusion: how the score changes when a patch or an anatomical region is replaced."""

from __future__ import annotations

from itertools import product
from math import ceil
from typing import Any

import torch

from pipeline.attribution.fills import Box, make_fill
from pipeline.attribution.occlusion_engine import Cover, occluded_logits
from pipeline.attribution.question import Answer, Question
from pipeline.attribution.registry import method
from pipeline.errors import MethodError


@method(
    "occlusion",
    family="perturbation",
    signed=True,
    class_discriminative=True,
    needs="nothing but the model's answers",
    cost="1 + number of patches",
    source="Zeiler and Fergus 2014, arXiv:1311.2901",
)
def occlusion(
    question: Question,
    *,
    patch: int | tuple[int, ...] | None = None,
    stride: int | tuple[int, ...] | None = None,
    fill: object = 0.0,
    batch_size: int = 8,
) -> Answer:
    """y_t(x) − y_t(x with the patch replaced), averaged where patches overlap.

    `patch` defaults to an eighth of each axis, `stride` to the patch. The last patch of an axis is clipped at
    the border, so that every pixel is covered.
    """
    images = question.images
    spatial = images.shape[2:]
    sizes = _per_axis("patch", patch, tuple(ceil(s / 8) for s in spatial), spatial)
    steps = _per_axis("stride", stride, sizes, spatial)
    if any(step > size for step, size in zip(steps, sizes, strict=True)):
        raise MethodError(
            f"stride {steps} is larger than patch {sizes}", "give a stride up to the patch size"
        )
    boxes = patch_boxes(tuple(spatial), sizes, steps)
    covers = [[Cover(box) for box in boxes]] * len(images)
    drops, logits = _drops(question, covers, fill, batch_size)
    total = images.new_zeros(len(images), 1, *spatial)
    count = images.new_zeros(spatial)
    for k, box in enumerate(boxes):
        total[:, 0][(slice(None), *box)] += drops[:, k].reshape(-1, *[1] * len(spatial))
        count[box] += 1
    return Answer(total / count, logits, details={"patches": len(boxes)})


@method(
    "region_occlusion",
    family="perturbation",
    signed=True,
    class_discriminative=True,
    needs="region labels on the model's grid",
    cost="1 + number of regions",
    source="Rieke et al. 2018, arXiv:1808.02874",
)
def region_occlusion(question: Question, *, fill: object = 0.0, batch_size: int = 8) -> Answer:
    """y_t(x) − y_t(x with one region replaced); every pixel carries its region's whole score.

    An effect across the border of two regions is invisible, one region at a time.
    """
    if question.regions is None:
        raise MethodError("region_occlusion needs regions", "give integer labels on the model's grid")
    present = [int(v) for v in torch.unique(question.regions) if v > 0]
    covers = [[region_cover(labels == v) for v in present] for labels in question.regions]
    drops, logits = _drops(question, covers, fill, batch_size)
    table = torch.cat([drops.new_zeros(len(drops), 1), drops], 1)
    index = torch.bucketize(question.regions.clamp(min=0), torch.tensor([0, *present], device=drops.device))
    values = table.gather(1, index.flatten(1)).reshape(question.regions.shape)[:, None]
    return Answer(values, logits, region_scores=drops)


def patch_boxes(spatial: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]) -> list[Box]:
    """Boxes of a sliding patch; the last of an axis is clipped at the border."""
    axes = []
    for length, size, step in zip(spatial, sizes, steps, strict=True):
        count = max(0, ceil((length - size) / step)) + 1
        axes.append([slice(k * step, min(k * step + size, length)) for k in range(count)])
    return list(product(*axes))


def region_cover(mask: torch.Tensor) -> Cover | None:
    """Bounding box and mask of one region; None where the image lacks it."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        hit = mask.any(dim=others).nonzero()
        if not len(hit):
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return Cover(tuple(box), mask[tuple(box)])


def _drops(
    question: Question, covers: list[list[Cover]] | list[list[Cover | None]], fill: object, batch_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """y_t(x) − y_t(x occluded), shape (N, covers), and the logits of the whole images."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise MethodError(f"batch_size {batch_size!r} is not a positive integer", "give 1 or more")
    whole, occluded = occluded_logits(
        question, covers, make_fill(question.images, fill), batch_size=batch_size
    )
    before = question.explained(whole)
    after = torch.stack([question.explained(occluded[:, k]) for k in range(occluded.shape[1])], 1)
    return before[:, None] - after, whole


def _per_axis(option: str, given: object, default: tuple[int, ...], spatial: torch.Size) -> tuple[int, ...]:
    if given is None:
        return default
    values: list[Any] = list(given) if isinstance(given, tuple | list) else [given] * len(spatial)
    if len(values) != len(spatial) or not all(type(v) is int and v > 0 for v in values):
        raise MethodError(
            f"option {option}={given!r} is not known",
            f"give a positive int, or {len(spatial)} of them, one an axis",
        )
    return tuple(min(v, s) for v, s in zip(values, spatial, strict=True))

"""Occlusion: how the score changes when a patch or an anatomical region is replaced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from math import ceil
from typing import Any

import torch
from scipy.ndimage import find_objects

from pipeline.attribution.fills import Box, make_fill
from pipeline.attribution.labels import present_labels, ranks, spread
from pipeline.attribution.occlusion_engine import Cover, Covers, occluded_logits
from pipeline.attribution.question import Answer, Question
from pipeline.attribution.registry import choice, method, number
from pipeline.errors import MethodError

FEW_LABELS = 2**16
"""Largest label up to which boxes are looked for by label, not by rank."""


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
    memory_limit: float | None = None,
    progress: bool = False,
) -> Answer:
    """y_t(x) − y_t(x with the patch replaced), averaged where patches overlap.

    `patch` defaults to an eighth of each axis, `stride` to the patch. The last patch of an axis is clipped at
    the border, so that every pixel is covered. `memory_limit` is in gigabytes (None: cache and two forward
    passes); `progress` shows a bar with the time left.
    """
    images = question.images
    spatial = images.shape[2:]
    sizes = _per_axis("patch", patch, tuple(ceil(s / 8) for s in spatial), spatial)
    steps = _per_axis("stride", stride, sizes, spatial)
    if any(step > size for step, size in zip(steps, sizes, strict=True)):
        raise MethodError(
            f"stride {steps} is larger than patch {sizes}", "give a stride up to the patch size"
        )
    axes = patch_axes(tuple(spatial), sizes, steps)
    boxes: list[Box] = list(product(*axes))
    covers = [[Cover(box) for box in boxes]] * len(images)
    drops, logits = _drops(question, covers, fill, batch_size, memory_limit, progress)
    details = {"patches": len(boxes), "estimate": estimate(question)}
    return Answer(_averaged(drops, axes, spatial)[:, None], logits, details=details)


def _averaged(drops: torch.Tensor, axes: Sequence[Sequence[slice]], spatial: torch.Size) -> torch.Tensor:
    """Give each pixel the mean of the patches over it, axis by axis; shape (N, *spatial)."""
    values = drops.reshape(-1, *[len(axis) for axis in axes])
    for k, (axis, length) in enumerate(zip(axes, spatial, strict=True), 1):
        over = drops.new_zeros(len(axis), length)
        for patch, part in enumerate(axis):
            over[patch, part] = 1
        values = torch.movedim(torch.movedim(values, k, -1) @ (over / over.sum(0)), -1, k)
    return values.contiguous()


@method(
    "region_occlusion",
    family="perturbation",
    signed=True,
    class_discriminative=True,
    needs="region labels on the model's grid",
    cost="1 + number of regions",
    source="Rieke et al. 2018, arXiv:1808.02874",
)
def region_occlusion(
    question: Question,
    *,
    fill: object = 0.0,
    groups: Sequence[Sequence[int]] | None = None,
    pairs: bool = False,
    batch_size: int = 8,
    memory_limit: float | None = None,
    progress: bool = False,
) -> Answer:
    """y_t(x) − y_t(x with one region replaced); every pixel carries its region's whole score.

    An effect across the border of two regions is invisible, one region at a time: `groups` (labels covered
    together, say left and right) and `pairs` (every two regions that touch) add
    `details["group_scores"]` of shape (N, groups) in the order of `details["groups"]`, not-a-number where an
    image has none of a group's regions. What a group's score exceeds the sum of its regions' by is their
    interaction. `memory_limit` is in gigabytes (None: cache and two forward passes).
    """
    if question.regions is None:
        raise MethodError("region_occlusion needs regions", "give integer labels on the model's grid")
    present = question.present
    together = _groups(groups, present)
    if pairs:
        together += [pair for pair in touching(question.regions) if pair not in together]
    wanted = [(v,) for v in present] + together
    covers: list[list[Cover | None]] = []
    for i, labels in enumerate(question.regions):
        again = i > 0 and torch.equal(labels, question.regions[i - 1])
        covers.append(covers[-1] if again else region_covers(labels, wanted))
    drops, logits = _drops(question, covers, fill, batch_size, memory_limit, progress)
    drops, grouped = drops[:, : len(present)], drops[:, len(present) :]
    values = spread(drops, question.regions, present)[:, None]
    answer = Answer(values, logits, region_scores=drops, details={"estimate": estimate(question)})
    if together:
        details = {**answer.details, "groups": tuple(together)}
        answer = replace(answer, details=details, each={"group_scores": grouped})
    return answer


def _groups(given: object, present: Sequence[int]) -> list[tuple[int, ...]]:
    """Labels to be covered together, checked."""
    groups = []
    for group in given if isinstance(given, list | tuple) else () if given is None else (given,):
        labels = group if isinstance(group, list | tuple) else ()
        if not labels or any(type(v) is not int or v not in present for v in labels):
            raise MethodError(
                f"group {group!r} is not a list of labels that the regions hold",
                "give groups like [(37, 38), (41, 42)]",
            )
        groups.append(tuple(sorted(set(labels))))
    return groups


def touching(regions: torch.Tensor) -> list[tuple[int, ...]]:
    """Find every two labels that lie side by side in some image.

    Parameters
    ----------
    regions : torch.Tensor of int, shape (N, *spatial)

    Returns
    -------
    list of (int, int)
        In ascending order.
    """
    found: set[tuple[int, ...]] = set()
    for axis in range(1, regions.ndim):
        length = regions.shape[axis] - 1
        here, there = regions.narrow(axis, 0, length).flatten(), regions.narrow(axis, 1, length).flatten()
        differ = (here != there) & (here > 0) & (there > 0)
        both = torch.stack([here[differ], there[differ]]).sort(0).values.T
        found |= {(int(a), int(b)) for a, b in torch.unique(both, dim=0)}
    return sorted(found)


def patch_axes(spatial: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]) -> list[list[slice]]:
    """Where a sliding patch lies along each axis; the last is clipped at the border."""
    axes = []
    for length, size, step in zip(spatial, sizes, steps, strict=True):
        count = max(0, ceil((length - size) / step)) + 1
        axes.append([slice(k * step, min(k * step + size, length)) for k in range(count)])
    return axes


def patch_boxes(spatial: tuple[int, ...], sizes: tuple[int, ...], steps: tuple[int, ...]) -> list[Box]:
    """Boxes of a sliding patch; the last of an axis is clipped at the border."""
    return list(product(*patch_axes(spatial, sizes, steps)))


def region_covers(labels: torch.Tensor, groups: Sequence[tuple[int, ...]]) -> list[Cover | None]:
    """Bounding box and mask of each group of regions; None where the image has none of its regions.

    Parameters
    ----------
    labels : torch.Tensor of int, shape (*spatial)
    groups : sequence of tuple of int
    """
    low, top = (int(v) for v in labels.aminmax())
    few = top <= FEW_LABELS and low >= -FEW_LABELS
    present = () if few else present_labels(labels)
    index = (labels if few else ranks(labels, present)).to(device="cpu", dtype=torch.int32)
    found = find_objects(index.numpy(), max_label=max(top, 0) if few else len(present))
    known = range(1, top + 1) if few else present
    boxes = {v: box for v, box in zip(known, found, strict=True) if box is not None}
    covers: list[Cover | None] = []
    for group in groups:
        parts = [boxes[v] for v in group if v in boxes]
        if not parts:
            covers.append(None)
            continue
        axes = list(zip(*parts, strict=True))
        box = tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in axes)
        inside = labels[box]
        mask = (
            torch.isin(inside, torch.tensor(group, device=labels.device))
            if len(group) > 1
            else inside == group[0]
        )
        covers.append(Cover(box, mask))
    return covers


def estimate(question: Question) -> str:
    """Say what was chosen, and what it was expected to take, before anything was computed."""
    return question.once("estimate", str)


def _drops(
    question: Question,
    covers: Covers,
    fill: object,
    batch_size: int,
    memory_limit: float | None,
    progress: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """y_t(x) − y_t(x occluded), shape (N, covers), and the logits of the whole images."""
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise MethodError(f"batch_size {batch_size!r} is not a positive integer", "give 1 or more")
    choice("progress", progress, (True, False))
    limit = None if memory_limit is None else number("memory_limit", memory_limit, low=0, above=True)
    whole, occluded = question.once(
        "occluded",
        lambda: occluded_logits(
            question,
            covers,
            make_fill(question.images, fill),
            batch_size=batch_size,
            memory_limit=limit,
            progress=progress,
        ),
    )
    question.passed(whole)
    before = question.explained(whole)
    images, count = occluded.shape[:2]
    after = question.explained(occluded.flatten(0, 1), question.targets.repeat_interleave(count))
    return before[:, None] - after.reshape(images, count), whole


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

"""Logits of an image with parts of it covered: the one function behind every occlusion.

Where the model can be captured, only what a cover can change is computed again (see
`pipeline.attribution.incremental`); else, and where that would not pay, plain forward passes in batches.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from pipeline.attribution.fills import Box, Fill, WholeFill
from pipeline.attribution.incremental.choice import Choice, choose, fitting
from pipeline.attribution.incremental.engine import Engine, Occlusion, extent
from pipeline.attribution.incremental.memory import LiveBytes
from pipeline.attribution.incremental.progress import Progress
from pipeline.attribution.incremental.windows import ints
from pipeline.attribution.question import Question

logger = logging.getLogger(__name__)


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


Covers = Sequence[Sequence[Cover | None]]


def occluded_logits(
    question: Question,
    covers: Covers,
    fill: Fill,
    *,
    batch_size: int = 8,
    memory_limit: float | None = None,
    progress: bool = False,
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
        Most whole images, or whole activations, in one pass.
    memory_limit : float or None
        Gigabytes that cached and computed activations may take; None: the cache and two forward passes,
        at most half of what is free.
    progress : bool
        Show a bar with the time left.

    Returns
    -------
    whole : torch.Tensor, shape (N, outputs)
    occluded : torch.Tensor, shape (N, K, outputs)
    """
    boxes = [(c.box if c is not None else None) for row in covers for c in row]
    choice = choose(question, boxes, batch_size=batch_size, memory_limit=memory_limit)
    logger.info("occlusion: %s", choice)
    question.once("estimate", lambda: str(choice))
    started = time.perf_counter()
    with Progress(sum(box is not None for box in boxes), shown=progress) as bar, torch.inference_mode():
        bar.say(f"occlusion: {choice}")
        answer = (
            _incremental(question, covers, fill, choice, bar)
            if choice.plan is not None
            else _plain(question, covers, fill, choice, bar)
        )
    logger.info("occlusion: predicted %s, took %.2f s", choice.cost, time.perf_counter() - started)
    return answer


def _incremental(
    question: Question, covers: Covers, fill: Fill, choice: Choice, bar: Progress
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each image's activations are cached while its covers are computed, and freed after."""
    assert choice.plan is not None
    whole: list[torch.Tensor] = []
    occluded: list[torch.Tensor] = []
    for i, row in enumerate(covers):
        if _asked_before(question.images, covers, fill, i):
            whole.append(whole[-1])
            occluded.append(occluded[-1])
            bar.advance(sum(cover is not None for cover in row))
            continue
        image = question.images[i : i + 1]
        present = [(k, cover) for k, cover in enumerate(row) if cover is not None]

        tight = isinstance(fill, WholeFill)
        begun = time.perf_counter()
        engine = Engine(choice.plan, image, choice.budget)
        if i == 0:
            one = time.perf_counter() - begun
            logger.info("occlusion: a pass took %.3f s: about %.2f s expected", one, one * choice.passes)
        logits = engine.logits[0].new_full((len(row), engine.logits.shape[1]), torch.nan)
        patches = _occlusions(image[0], [cover for _, cover in present], fill, i)
        for number, values in engine.occluded(patches, bar.advance, tight=tight):
            logits[present[number][0]] = values
        whole.append(engine.logits[0])
        occluded.append(logits)
    return torch.stack(whole), torch.stack(occluded)


def _occlusions(image: torch.Tensor, covers: Sequence[Cover], fill: Fill, i: int) -> Iterator[Occlusion]:
    """Where each cover begins and what it puts there; cut down to what differs where the fill is an image."""
    if not isinstance(fill, WholeFill):
        for cover in covers:
            yield ints([s.start for s in cover.box]), _patch(image, cover, fill, i)
        return
    differs = (image != fill.whole[i]).any(0).numpy()
    begin, size = extent(differs) or (ints([0] * differs.ndim),) * 2
    low, high = begin.tolist(), (begin + size).tolist()
    for cover in covers:
        found = None
        if all(s.start < b and s.stop > a for s, a, b in zip(cover.box, low, high, strict=True)):
            inside = differs[cover.box]
            found = extent(inside if cover.mask is None else inside & cover.mask.numpy())
        if found is None:
            yield ints([s.start for s in cover.box]), None
            continue
        part = tuple(slice(int(a), int(a + n)) for a, n in zip(*found, strict=True))
        box = tuple(slice(s.start + p.start, s.start + p.stop) for s, p in zip(cover.box, part, strict=True))
        mask = None if cover.mask is None else cover.mask[part]
        yield ints([s.start for s in box]), _patch(image, Cover(box, mask), fill, i)


def _asked_before(images: torch.Tensor, covers: Covers, fill: Fill, i: int) -> bool:
    """Whether image, covers and fills are those of the image before (another class of it is explained)."""
    if i == 0 or covers[i] is not covers[i - 1] or not torch.equal(images[i], images[i - 1]):
        return False
    present = [cover for cover in covers[i] if cover is not None]
    return all(
        torch.equal(fill(i, cover.box, cover.mask), fill(i - 1, cover.box, cover.mask)) for cover in present
    )


def _plain(
    question: Question, covers: Covers, fill: Fill, choice: Choice, bar: Progress
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain forward passes in batches: right for every model."""
    images, batch_size = question.images, choice.images
    if choice.given_limit is not None and not question.capturable:
        with LiveBytes() as taken:
            question.forward(images[:1])
        batch_size = fitting(taken.peak, images, choice.given_limit, batch_size)
    whole = torch.cat([question.forward(part) for part in torch.split(images, batch_size)])
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
        bar.advance(len(part))
    return whole, occluded


def covered(image: torch.Tensor, cover: Cover, fill: Fill, index: int) -> torch.Tensor:
    """Copy `image` (C, *spatial) with the cover's part replaced."""
    copy = image.clone()
    copy[(slice(None), *cover.box)] = _patch(image, cover, fill, index)
    return copy


def _patch(image: torch.Tensor, cover: Cover, fill: Fill, index: int) -> torch.Tensor:
    """Make what stands in the cover's box afterwards, shape (C, *box)."""
    replacement = fill(index, cover.box, cover.mask)
    if cover.mask is None:
        return replacement
    return torch.where(cover.mask, replacement, image[(slice(None), *cover.box)])

"""Occluded logits by computing again only what each occlusion can change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch

from pipeline.attribution.incremental.cost import Budget, batches, forecast
from pipeline.attribution.incremental.deltas import Change, Delta, gathered, memory_format
from pipeline.attribution.incremental.plan import Plan
from pipeline.attribution.incremental.stages import MaxPool
from pipeline.attribution.incremental.steps import (
    Averaged,
    Boxes,
    LocalStep,
    Opaque,
    Step,
    Values,
    Windowed,
    whole_value,
)
from pipeline.attribution.incremental.windows import Ints, box_of, ints
from pipeline.models.graph.captured import store

CHUNK = 1024
"""Occlusions looked at together."""
WORTH = 1e8
"""Multiplications ahead from which it pays to look whether a change is still there."""
Report = Callable[[int], None]
"""`report(n)`: n more occlusions are done."""


@dataclass(eq=False)
class Item:
    """One occlusion on its way: its number and what of the current value it changed."""

    number: int
    delta: Delta


class Engine:
    """One image, its cached activations, and occlusions of it.

    Parameters
    ----------
    plan : Plan
    image : torch.Tensor, shape (1, C, *spatial)
    budget : Budget
        How much may be in memory at once.
    """

    def __init__(self, plan: Plan, image: torch.Tensor, budget: Budget) -> None:
        self.plan = plan
        self.budget = budget
        layout = memory_format(image.ndim - 2, image.dtype)
        given = {plan.source: image.contiguous(memory_format=layout)}
        self.clean: Values = run([*plan.local, *plan.rest], {**plan.fixed, **given}, 1, plan.needed)
        self.clean = {**plan.fixed, **self.clean}

    @property
    def logits(self) -> torch.Tensor:
        """Logits of the untouched image, shape (1, outputs)."""
        return self.clean[self.plan.output]

    def occluded(
        self, occlusions: Iterator[tuple[Ints, torch.Tensor]], report: Report
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Logits of occluded images.

        Parameters
        ----------
        occlusions : iterator of (start, patch)
            Where a box begins, and what stands in it now, shape (C, *size).
        report : callable
            Told how many are done.

        Yields
        ------
        number, logits : int, torch.Tensor of shape (outputs,)
        """
        numbered = enumerate(occlusions)
        while chunk := list(islice(numbered, CHUNK)):
            wave = [(n, self._tight(start, patch)) for n, (start, patch) in chunk]
            yield from self._swallowed([n for n, delta in wave if delta is None], report)
            items = [Item(n, delta) for n, delta in wave if delta is not None]
            del wave, chunk
            for part in self._waves(items) if items else ():
                yield from self._wave(part, report)

    def _swallowed(self, numbers: Sequence[int], report: Report) -> Iterator[tuple[int, torch.Tensor]]:
        """Occlusions that no longer change anything."""
        for number in numbers:
            yield number, self.logits[0]
        report(len(numbers))

    def _waves(self, items: list[Item]) -> Iterator[list[Item]]:
        """Split occlusions so that what they hold between segments fits the budget."""
        boxes, value = _boxes(items), self.plan.source
        held = np.zeros(len(items))
        for segment in self.plan.segments:
            boxes = forecast(segment, value, boxes).boxes
            value = segment[-1].name
            held = np.maximum(held, (boxes[1] - boxes[0]).prod(1) * float(segment[-1].shape[1]))
        total = np.cumsum(held) * self.logits.element_size() // self.budget.wave
        for part in np.split(np.arange(len(items)), np.flatnonzero(np.diff(total)) + 1):
            yield [items[k] for k in part.tolist()]

    def _tight(self, start: Ints, patch: torch.Tensor) -> Delta | None:
        """Box of what really differs from the image; None where nothing does."""
        source = self.clean[self.plan.source]
        delta = Delta(patch[None], start[None])
        return tighten(delta, source)

    def _wave(self, wave: list[Item], report: Report) -> Iterator[tuple[int, torch.Tensor]]:
        """Take occlusions through the network together, segment by segment."""
        value = self.plan.source
        segments = self.plan.segments
        for segment in segments[:-1]:
            moved: list[Item] = []
            for batch in self._batches(wave, segment, value):
                merged = gathered([item.delta for item in batch])
                result = self._change(segment, {value: merged})[segment[-1].name]
                assert isinstance(result, Delta)
                moved += [Item(item.number, result.one(g)) for g, item in enumerate(batch)]
            if moved and swallows(segment[-1]):
                moved = self._surviving(moved, segment[-1].name)
            left = {item.number for item in moved}
            yield from self._swallowed([item.number for item in wave if item.number not in left], report)
            wave, value = moved, segment[-1].name
        last = segments[-1] if segments else ()
        for batch in self._batches(wave, (*last, *self.plan.rest), value):
            merged = gathered([item.delta for item in batch])
            changed = self._change(last, {value: merged})
            for item, row in zip(batch, self._finish(changed, len(batch)), strict=True):
                yield item.number, row
            report(len(batch))

    def _batches(self, wave: list[Item], steps: Sequence[Step], value: str) -> Iterator[list[Item]]:
        if not wave:
            return
        boxes = _boxes(wave)
        ahead = forecast(steps, value, boxes)
        whole = steps[-1:] == self.plan.rest[-1:] and any(
            not isinstance(s, Averaged) for s in self.plan.rest if set(s.inputs) & set(self.plan.frontier)
        )
        size = self.logits.element_size()
        for numbers in batches(boxes[1] - boxes[0], ahead, self.budget, size, whole):
            yield [wave[k] for k in numbers]

    def _surviving(self, items: list[Item], value: str) -> list[Item]:
        """Shrink boxes to what still differs, where enough work lies ahead; drop what was swallowed."""
        names = [step.name for step in self.plan.local]
        ahead = forecast(self.plan.local[names.index(value) + 1 :], value, _boxes(items)).effort
        left = []
        for item, effort in zip(items, ahead.tolist(), strict=True):
            delta = tighten(item.delta, self.clean[value]) if effort > WORTH else item.delta
            if delta is not None:
                left.append(Item(item.number, delta))
        return left

    def _change(self, steps: Sequence[LocalStep], changed: dict[str, Change]) -> dict[str, Change]:
        """Take changes through local steps; values are dropped after their last use."""
        kept = {steps[-1].name, *self.plan.frontier} if steps else set(changed)
        last = {n: i for i, step in enumerate(steps) for n in step.inputs}
        for i, step in enumerate(steps):
            changed[step.name] = step.change([changed.get(n) for n in step.inputs], self.clean)
            for name in step.inputs:
                if last[name] == i and name not in kept:
                    changed.pop(name, None)
        return changed

    def _finish(self, changed: Mapping[str, Change], images: int) -> torch.Tensor:
        """Logits from what changed where locality ends, shape (images, outputs)."""
        given: dict[str, torch.Tensor] = dict(self.plan.fixed)
        steps: list[Step] = []
        for step in self.plan.rest:
            name = step.inputs[0]
            if isinstance(step, Averaged) and name in self.plan.frontier:
                if name in changed:
                    delta = changed[name].even(self.clean[name])
                    given[step.name] = step.update(self.clean[step.name], self.clean[name], delta)
                else:
                    given[step.name] = whole_value(self.clean[step.name], None, images)
            else:
                steps.append(step)
        read = {n for step in steps for n in step.inputs} | {self.plan.output}
        for name in self.plan.frontier:
            if name in read:
                given[name] = whole_value(self.clean[name], changed.get(name), images)
        return run(steps, given, images, {self.plan.output})[self.plan.output]


def run(
    steps: Sequence[Step], given: Values, images: int, keep: set[str] | frozenset[str]
) -> dict[str, torch.Tensor]:
    """Compute whole values; everything but `keep` is freed after its last use."""
    values = dict(given)
    last = {n: i for i, step in enumerate(steps) for n in step.inputs}
    for i, step in enumerate(steps):
        if isinstance(step, Opaque):
            store(values, step.operation, step.results(values, images))
        else:
            values[step.name] = step.whole(values, images)
        for name in (*step.inputs, step.name):
            if last.get(name, -1) <= i and name not in keep:
                values.pop(name, None)
    return {name: values[name] for name in keep}


def swallows(step: LocalStep) -> bool:
    """Whether a step can make a change disappear: a maximum or a rectifier."""
    pooled = isinstance(step, Windowed) and any(isinstance(stage, MaxPool) for stage in step.stages)
    return pooled or any(touch.rising for touch in step.touches)


def tighten(delta: Delta, clean: torch.Tensor) -> Delta | None:
    """Shrink the box of one occlusion to where values really differ; None where none does."""
    start = delta.starts[0]
    differs = delta.values != box_of(clean, 0, start, delta.size)
    anywhere: npt.NDArray[np.bool_] = (differs[0, 0] if differs.shape[1] == 1 else differs.any(1)[0]).numpy()
    low, size = [], []
    rest: npt.NDArray[np.bool_] = np.asarray(anywhere.any(0))
    if not rest.any():
        return None
    for axis in range(anywhere.ndim):
        others = tuple(a for a in range(rest.ndim) if a != axis - 1)
        along = np.asarray(rest.any(others) if axis else anywhere.reshape(len(anywhere), -1).any(1))
        low.append(int(along.argmax()))
        size.append(len(along) - int(along[::-1].argmax()) - low[-1])
    return Delta(box_of(delta.values, 0, ints(low), ints(size)), (start + ints(low))[None])


def _boxes(items: Sequence[Item]) -> Boxes:
    low = np.concatenate([item.delta.starts for item in items])
    return low, low + np.stack([item.delta.size for item in items])

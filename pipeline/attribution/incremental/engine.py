"""Occluded logits by computing again only what each occlusion can change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import torch

from pipeline.attribution.incremental.cost import Budget, batches, forecast, numbers_in
from pipeline.attribution.incremental.deltas import Change, Delta, gathered, memory_format
from pipeline.attribution.incremental.plan import Plan, Section
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
    whole_values,
)
from pipeline.attribution.incremental.windows import Ints, box_of, ints
from pipeline.models.graph.captured import store

CHUNK = 1024
"""Most occlusions that wait for one another."""
WORTH = 1e8
"""Multiplications ahead from which it pays to look whether a change is still there."""
MARGIN = 1.5
"""Occlusions hold more than their boxes: those of a batch are made alike."""
Occlusion = tuple[Ints, torch.Tensor | None]
Report = Callable[[int], None]
"""`report(n)`: n more occlusions are done."""


@dataclass(eq=False)
class Item:
    """One occlusion on its way: its number and what of the current value it changed."""

    number: int
    delta: Delta
    counted: float = 0.0
    """Bytes that it is counted to hold while it waits."""


class Engine:
    """One image, its cached activations, and occlusions of it.

    Occlusions go through the network in waves as large as the budget allows. Where they hold much less than
    before (behind a pooling, say), they wait for those of the next waves and go on together.

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
        self._waiting = 0.0
        self._known_weights: dict[tuple[str, torch.Size], float] = {}
        self._finished: list[tuple[int, torch.Tensor]] = []

    @property
    def logits(self) -> torch.Tensor:
        """Logits of the untouched image, shape (1, outputs)."""
        return self.clean[self.plan.output]

    def occluded(
        self, occlusions: Iterator[Occlusion], report: Report, *, tight: bool = False
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Logits of occluded images.

        Parameters
        ----------
        occlusions : iterator of (start, patch)
            Where a box begins, and what stands in it now, shape (C, *size); None: as it was.
        report : callable
            Told how many are done.
        tight : bool
            Whether the boxes are those of what really differs.

        Yields
        ------
        number, logits : int, torch.Tensor of shape (outputs,)
        """
        stream = self._entering(occlusions, tight)
        for stretch in self.plan.stretches:
            stream = self._through(stream, stretch)
        for _ in stream:
            yield from self._reported(report)
        yield from self._reported(report)

    def _reported(self, report: Report) -> list[tuple[int, torch.Tensor]]:
        finished, self._finished = self._finished, []
        report(len(finished))
        return finished

    def _swallowed(self, numbers: Iterable[int]) -> None:
        """Occlusions that no longer change anything."""
        self._finished += [(number, self.logits[0]) for number in numbers]

    def _entering(self, occlusions: Iterator[Occlusion], tight: bool) -> Iterator[list[Item]]:
        """Occlusions that change something, as boxes of what really differs from the image."""
        source = self.clean[self.plan.source]
        items: list[Item] = []
        held = 0
        for number, (start, patch) in enumerate(occlusions):
            delta = None if patch is None else Delta(patch[None], start[None])
            if delta is not None and not tight:
                delta = tighten(delta, source)
            if patch is None or delta is None:
                self._swallowed([number])
                continue
            items.append(Item(number, delta))
            own = patch.untyped_storage().nbytes() == patch.nbytes  # else a view of the fill
            held += patch.nbytes if own else 0
            items[-1].counted = patch.nbytes if own else 0
            self._waiting += items[-1].counted
            if held > self.budget.wave / 2 or len(items) == CHUNK:
                yield items
                items, held = [], 0
        yield items

    def _through(self, stream: Iterator[list[Item]], stretch: Sequence[Section]) -> Iterator[list[Item]]:
        """Take occlusions through a stretch in waves that fit the budget; lists given are emptied."""
        wave: list[Item] = []
        for arrived in stream:
            for weight in self._weights(arrived, stretch):
                more = weight - arrived[0].counted
                if wave and (self._waiting + more > self.budget.wave or len(wave) == CHUNK):
                    yield self._onwards(wave, stretch)
                wave.append(arrived.pop(0))
                wave[-1].counted = weight
                self._waiting += more
        if wave:
            yield self._onwards(wave, stretch)

    def _weights(self, items: list[Item], stretch: Sequence[Section]) -> list[float]:
        """Bytes that each occlusion holds at most while it waits in a stretch."""
        sizes = [(stretch[0].value, item.delta.values.shape) for item in items]
        new = dict(zip(sizes, items, strict=True))  # of every size one
        new = {size: item for size, item in new.items() if size not in self._known_weights}
        if new:
            weights = self._computed_weights(list(new.values()), stretch)
            self._known_weights |= dict(zip(new, weights, strict=True))
        return [self._known_weights[size] for size in sizes]

    def _computed_weights(self, items: list[Item], stretch: Sequence[Section]) -> list[float]:
        boxes, shapes = _boxes(items), self.plan.shapes
        held = numbers_in(boxes, shapes[stretch[0].value])
        most = held
        for section in stretch:
            if section.rest:  # whole values, in one order: what went in is dropped as they come out
                most = np.maximum(most, float(prod(shapes[section.result])))
            else:
                before, boxes = held, forecast(section.local, section.value, boxes, shapes).boxes
                held = numbers_in(boxes, shapes[section.result])
                most = np.maximum(most, MARGIN * (before + held))
        bytes_: list[float] = (most * self.logits.element_size()).tolist()
        return bytes_

    def _onwards(self, wave: list[Item], stretch: Sequence[Section]) -> list[Item]:
        """Take a wave through a stretch, section by section; what leaves the last one is finished."""
        self._waiting -= sum(item.counted for item in wave)
        for section in stretch:
            moved: list[Item] = []
            for numbers, changed in self._batches(wave, section):
                if not section.rest and section.result != self.plan.output:
                    result = self._change(section.local, changed)[section.result]
                    assert isinstance(result, Delta)
                    share = result.values.nbytes / len(numbers)
                    moved += [Item(number, result.one(g), share) for g, number in enumerate(numbers)]
                    del result
                    continue
                values = self._in_full(section, changed, len(numbers))
                if section.result == self.plan.output:
                    self._finished += zip(numbers, values, strict=True)
                    continue
                starts = np.zeros((1, values.ndim - 2), np.int64)
                share = values.nbytes / len(numbers)
                parts = zip(numbers, torch.split(values, 1), strict=True)
                moved += [Item(n, Delta(v, starts), share) for n, v in parts]
                del values
            if moved and not section.rest and swallows(section.local[-1]):
                moved = self._surviving(moved, section.result)
            wave += moved
        left = wave.copy()
        wave.clear()
        self._waiting += sum(item.counted for item in left)
        return left

    def _batches(self, wave: list[Item], section: Section) -> Iterator[tuple[list[int], dict[str, Change]]]:
        """Numbers and changes of one batch after the other; the wave is emptied on the way."""
        if not wave:
            return
        if len(wave) == 1:
            (item,) = wave
            wave.clear()
            names = [item.number]
            changed: dict[str, Change] = {section.value: item.delta}
            del item
            yield names, changed
            return
        boxes = _boxes(wave)
        ahead = forecast(section.steps, section.value, boxes, self.plan.shapes)
        local = {section.value, *(step.name for step in section.local)}
        whole = any(not isinstance(s, Averaged) for s in section.rest if local.intersection(s.inputs))
        size = self.logits.element_size()
        waiting: dict[int, Item] = dict(enumerate(wave))
        wave.clear()
        for numbers in batches(boxes[1] - boxes[0], ahead, self.budget, size, whole):
            names = [waiting[k].number for k in numbers]
            yield names, {section.value: gathered([waiting.pop(k).delta for k in numbers])}

    def _surviving(self, items: list[Item], value: str) -> list[Item]:
        """Shrink boxes to what still differs, where enough work lies ahead; drop what was swallowed."""
        clean = self.clean[value]
        whole, ahead = float(prod(clean.shape[2:])), self.plan.ahead[value]
        left = []
        for item in items:
            share = float(prod(item.delta.values.shape[2:])) / whole
            worth = share < 1 and 2 * share * ahead > WORTH  # boxes grow on their way
            delta = tighten(item.delta, clean) if worth else item.delta
            if delta is not None:
                left.append(Item(item.number, delta, item.counted))
        return left

    def _change(self, steps: Sequence[LocalStep], changed: dict[str, Change]) -> dict[str, Change]:
        """Take changes through local steps; values are dropped after their last use."""
        kept = {*(step.name for step in steps[-1:]), *self.plan.frontier, *([] if steps else changed)}
        last = {n: i for i, step in enumerate(steps) for n in step.inputs}
        for i, step in enumerate(steps):
            changed[step.name] = step.change([changed.get(n) for n in step.inputs], self.clean)
            for name in step.inputs:
                if last[name] == i and name not in kept:
                    changed.pop(name, None)
        return changed

    def _in_full(self, section: Section, changed: dict[str, Change], images: int) -> torch.Tensor:
        """Whole result of a section, shape (images, ...): of boxes first, where locality ends in it."""
        changed = self._change(section.local, changed)
        given: dict[str, torch.Tensor] = dict(self.plan.fixed)
        steps: list[Step] = []
        ends = {self.plan.source, *(step.name for step in self.plan.local)}
        for step in section.rest:
            name = step.inputs[0] if step.inputs else ""
            if isinstance(step, Averaged) and name in ends:
                if name in changed:
                    delta = changed[name].even(self.clean[name])
                    given[step.name] = step.update(self.clean[step.name], self.clean[name], delta)
                else:
                    given[step.name] = whole_value(self.clean[step.name], None, images)
            else:
                steps.append(step)
        read = {n for step in steps for n in step.inputs} | {section.result}
        for name in {section.value, *self.plan.frontier} & read:
            change = changed.pop(name, None)
            if name in ends:
                given[name] = whole_value(self.clean[name], change, images)
            elif change is not None:
                given[name] = whole_values(change)
            del change
        changed.clear()
        return run(steps, given, images, {section.result})[section.result]


def run(
    steps: Sequence[Step], values: dict[str, torch.Tensor], images: int, keep: set[str] | frozenset[str]
) -> dict[str, torch.Tensor]:
    """Compute whole values; everything in `values` but `keep` is dropped after its last use."""
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
    found = extent((differs[0, 0] if differs.shape[1] == 1 else differs.any(1)[0]).numpy())
    if found is None:
        return None
    low, size = found
    return Delta(box_of(delta.values, 0, low, size), (start + low)[None])


def extent(anywhere: npt.NDArray[np.bool_]) -> tuple[Ints, Ints] | None:
    """Where the box of all that is true begins, and its size; None where nothing is."""
    low, size = [], []
    rest: npt.NDArray[np.bool_] = np.asarray(anywhere.any(0))
    if not rest.any():
        return None
    for axis in range(anywhere.ndim):
        others = tuple(a for a in range(rest.ndim) if a != axis - 1)
        along = np.asarray(rest.any(others) if axis else anywhere.reshape(len(anywhere), -1).any(1))
        low.append(int(along.argmax()))
        size.append(len(along) - int(along[::-1].argmax()) - low[-1])
    return ints(low), ints(size)


def _boxes(items: Sequence[Item]) -> Boxes:
    low = np.concatenate([item.delta.starts for item in items])
    return low, low + np.stack([item.delta.size for item in items])

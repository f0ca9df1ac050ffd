"""Steps of the plan: each computes a value for whole images, and the local ones for boxes as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.attribution.incremental.deltas import Change, Delta, empty, pasted, same_boxes, window
from pipeline.attribution.incremental.stages import Stage
from pipeline.attribution.incremental.windows import Ints, Window, alike, clipped, ints
from pipeline.models.graph.operation import Batch, Operation

Values = Mapping[str, torch.Tensor]
Boxes = tuple[Ints, Ints]
"""Boxes from low to high (exclusive), each of shape (occlusions, axes)."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Touch:
    """An activation, number by number; it may work in place: the tensor given is the step's own.

    Attributes
    ----------
    apply : callable
    rising : bool
        Never falling, and exact: then it may as well be applied after a maximum.
    """

    apply: Callable[[torch.Tensor], torch.Tensor]
    rising: bool = False


@dataclass(eq=False)
class Step:
    """One step of the plan.

    Attributes
    ----------
    name : str
        Name of the value it makes: that of the last operation it stands for.
    inputs : tuple of str
        Dynamic values read.
    shape : tuple of int
        Shape of its result for one image.
    touches : list of Touch
        Activations applied to the result in place.
    fresh : bool
        Whether the result is a tensor of its own, which may be changed in place.
    """

    name: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    touches: list[Touch] = field(default_factory=list, kw_only=True)
    fresh: bool = field(default=True, kw_only=True)

    @property
    def limit(self) -> Ints:
        """Spatial shape of the result."""
        return ints(self.shape[2:])

    @property
    def divisible(self) -> bool:
        """Whether the result for several images is that of one after the other along the first axis."""
        return False

    def whole(self, values: Values, images: int) -> torch.Tensor:
        """Compute the result for whole images."""
        return self._touched(self._whole(values, images))

    def _whole(self, values: Values, images: int) -> torch.Tensor:
        raise NotImplementedError

    def _touched(self, result: torch.Tensor) -> torch.Tensor:
        for touch in self.touches:
            result = touch.apply(result)
        return result


@dataclass(eq=False)
class Opaque(Step):
    """Any operation, as it was captured."""

    operation: Operation
    static: Callable[[int], Values]

    @property
    def divisible(self) -> bool:
        """As captured."""
        shape = self.operation.shape
        return shape[:1] == (Batch(1),) and not any(isinstance(d, Batch) for d in shape[1:])

    def results(self, values: Values, images: int) -> Any:
        """All its results."""
        missing = [n for n in self.operation.inputs if n not in values]
        if missing:
            static = self.static(images)
            values = {**values, **{n: static[n] for n in missing}}
        return self.operation.compute(values, images)

    def _whole(self, values: Values, images: int) -> torch.Tensor:
        result = self.results(values, images)
        return result if isinstance(result, torch.Tensor) else result[0]


@dataclass(eq=False)
class LocalStep(Step):
    """A step whose result changes only where its input changed, or nearby."""

    @property
    def divisible(self) -> bool:
        """Always: only such operations are local."""
        return True

    @property
    def needs_clean(self) -> tuple[str, ...]:
        """Values of the untouched image that it needs beside the changes."""
        return self.inputs

    def reach(self, boxes: Sequence[Boxes]) -> Boxes:
        """Boxes that changes in boxes of its inputs can reach."""
        raise NotImplementedError

    def change(self, deltas: Sequence[Change | None], clean: Values) -> Delta:
        """Make of changes of the inputs (None: unchanged) the change of the result."""
        raise NotImplementedError

    def effort(self, size: Ints) -> Floats:
        """Multiplications for boxes of these sizes, shape (boxes, axes)."""
        numbers: Floats = size.prod(1) * float(self.shape[1])
        return numbers

    def scratch(self, size: Ints) -> Floats:
        """Numbers held at most while boxes of these sizes are computed, the result included."""
        numbers: Floats = size.prod(1) * float(self.shape[1])
        return numbers

    def _place(self, deltas: Sequence[Change]) -> tuple[Ints, Ints]:
        """Find starts and common size of the boxes that changes reach."""
        return alike(*self.reach([(d.starts, d.starts + d.size) for d in deltas]), self.limit)


@dataclass(eq=False)
class Windowed(LocalStep):
    """Stages that look at windows, one after the other, without keeping what is between."""

    stages: list[Stage]
    pooling: str = ""
    """Name of the pooling's own value, where one is joined to a convolution."""

    @property
    def window(self) -> Window:
        """Window of all stages together."""
        whole = self.stages[0].window
        for stage in self.stages[1:]:
            whole = whole.then(stage.window)
        return whole

    @property
    def needs_clean(self) -> tuple[str, ...]:
        """Values of the untouched image that it needs."""
        return () if self.window.trivial else self.inputs

    def _whole(self, values: Values, images: int) -> torch.Tensor:  # noqa: ARG002
        result = values[self.inputs[0]]
        for stage in self.stages:
            result = stage.whole(result)
        return result

    def reach(self, boxes: Sequence[Boxes]) -> Boxes:
        """Boxes that changes in boxes of its inputs can reach."""
        low, high = boxes[0]
        for stage in self.stages:
            low, high = clipped(*stage.window.reaches(low, high), stage.limit)
        return low, high

    def change(self, deltas: Sequence[Change | None], clean: Values) -> Delta:
        """Change of the result."""
        delta = deltas[0]
        assert delta is not None
        starts, size = self._place([delta])
        if self.window.trivial:
            delta = delta.even(clean.get(self.inputs[0]))
            result = self.stages[0].compute(delta.values, delta.starts, delta.size)
            return Delta(self._touched(result), delta.starts)
        source = clean[self.inputs[0]]
        if (size == self.limit).all() and (delta.size == ints(source.shape[2:])).all():
            values = delta.even(source).values
            return Delta(self.whole({self.inputs[0]: values}, len(starts)), starts)
        boxes = [(starts, size)]
        for stage in reversed(self.stages):
            boxes.append(stage.window.needs(*boxes[-1]))
        boxes.reverse()
        result = window(source, delta, *boxes[0], self.stages[0].border)
        for k, stage in enumerate(self.stages):
            if k:
                _fill_outside(result, boxes[k][0], self.stages[k - 1].limit, stage.border)
            result = stage.compute(result, *boxes[k + 1])
        return Delta(self._touched(result), starts)

    def effort(self, size: Ints) -> Floats:
        """Multiplications for boxes of these sizes."""
        total, start = np.zeros(len(size)), np.zeros_like(size)
        for stage in reversed(self.stages):
            total += stage.effort * np.minimum(size, stage.limit).prod(1)
            start, size = stage.window.needs(start, size)
        return total

    def scratch(self, size: Ints) -> Floats:
        """Numbers held at most: what is cut out, and what each stage makes of it."""
        start, most = np.zeros_like(size), np.zeros(len(size))
        made = super().scratch(size)
        for k, stage in enumerate(reversed(self.stages)):
            start, size = stage.window.needs(start, size)
            first = k == len(self.stages) - 1
            read: Floats = size.prod(1) * float(stage.reads if first and stage.reads else self.shape[1])
            most, made = np.maximum(most, made if first and self.window.trivial else made + read), read
        return most


def _fill_outside(values: torch.Tensor, starts: Ints, limit: Ints, border: float) -> None:
    """Put `border` where boxes leave the image, between two stages."""
    size = ints(values.shape[2:])
    if (starts >= 0).all() and (starts + size <= limit).all():
        return
    for axis in range(len(limit)):
        before = np.maximum(-starts[:, axis], 0)
        after = np.maximum(starts[:, axis] + size[axis] - limit[axis], 0)
        for g in np.flatnonzero(before + after):
            along = values[int(g)].movedim(1 + axis, 0)
            along[: int(before[g])] = border
            along[len(along) - int(after[g]) :] = border


@dataclass(eq=False)
class Joined(LocalStep):
    """Numbers of several activations (or one) at the same place: +, ×, concatenation, activation, affine."""

    join: Callable[[Sequence[torch.Tensor]], torch.Tensor]
    concatenates: bool = False
    """Whether channels are put one after the other."""
    as_touch: Touch | None = None
    """The same, applied to a tensor that may be changed; only where there is one input."""

    def scratch(self, size: Ints) -> Floats:
        """Numbers held at most: the result and, where boxes differ, the inputs cut alike."""
        alone = len(self.inputs) == 1 or self.concatenates
        return super().scratch(size) * (1 if alone else 1 + len(self.inputs))

    @property
    def needs_clean(self) -> tuple[str, ...]:
        """Values of the untouched image that it needs."""
        return self.inputs if len(self.inputs) > 1 else ()

    def _whole(self, values: Values, images: int) -> torch.Tensor:
        parts = [values[n] for n in self.inputs]
        return self.join([p.expand(images, *p.shape[1:]) if len(p) != images else p for p in parts])

    def reach(self, boxes: Sequence[Boxes]) -> Boxes:
        """Boxes that changes in boxes of its inputs can reach."""
        if len(boxes) == 1:
            return boxes[0]
        low = np.minimum.reduce([low for low, _ in boxes])
        return low, np.maximum.reduce([high for _, high in boxes])

    def change(self, deltas: Sequence[Change | None], clean: Values) -> Delta:
        """Change of the result."""
        if self.concatenates and any(not isinstance(d, Delta) for d in deltas):
            starts, size = self._place([d for d in deltas if d is not None])
            return Delta(self._touched(self._side_by_side(deltas, clean, starts, size)), starts)
        given = zip(self.inputs, deltas, strict=True)
        even = [None if d is None else d.even(clean.get(name)) for name, d in given]
        known = [d for d in even if d is not None]
        if len(known) == len(even) and same_boxes(known):
            return Delta(self._touched(self.join([d.values for d in known])), known[0].starts)
        starts, size = self._place(known)
        if self.concatenates:
            return Delta(self._touched(self._side_by_side(even, clean, starts, size)), starts)
        target = Delta(known[0].values.new_empty((len(starts), 0, *size.tolist())), starts)
        parts = [
            d.values if d is not None and same_boxes([d, target]) else window(clean[name], d, starts, size)
            for name, d in zip(self.inputs, even, strict=True)
        ]
        return Delta(self._touched(self.join(parts)), starts)

    def _side_by_side(
        self, deltas: Sequence[Change | None], clean: Values, starts: Ints, size: Ints
    ) -> torch.Tensor:
        """Put windows of all inputs into one tensor, channels one after the other."""
        first = clean[self.inputs[0]]
        joined = empty(first, len(starts), self.shape[1], size)
        channel = 0
        for name, delta in zip(self.inputs, deltas, strict=True):
            count = clean[name].shape[1]
            window(clean[name], delta, starts, size, into=joined[:, channel : channel + count])
            channel += count
        return joined


@dataclass(eq=False)
class Averaged(Step):
    """Global average (or sum) pooling: updated by the difference."""

    operation: Operation
    count: int

    def _whole(self, values: Values, images: int) -> torch.Tensor:
        result: torch.Tensor = self.operation.compute(values, images)
        return result

    def update(self, clean: torch.Tensor, source: torch.Tensor, delta: Delta) -> torch.Tensor:
        """Pool what changed: `clean` is the untouched result, `source` the activation that is pooled."""
        if (delta.size == ints(source.shape[2:])).all():
            return self.whole({self.inputs[0]: delta.values}, len(delta.starts))
        before = window(source, None, delta.starts, delta.size)
        axes = tuple(range(2, source.ndim))
        difference = torch.sub(delta.values, before, out=before).sum(axes) / self.count
        return self._touched(clean + difference.reshape(-1, *clean.shape[1:]))


def whole_value(clean: torch.Tensor, delta: Change | None, images: int) -> torch.Tensor:
    """Whole activations of several occlusions."""
    return clean.expand(images, *clean.shape[1:]) if delta is None else pasted(clean, delta)


def whole_values(change: Change) -> torch.Tensor:
    """Whole values of several occlusions, of which nothing else is known."""
    if isinstance(change, Delta):
        return change.values
    return torch.cat([part.values for part in change.parts])

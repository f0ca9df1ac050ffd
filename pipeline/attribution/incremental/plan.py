"""The plan: the captured graph with BatchNorm folded, activations in place, pooling joined to convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch

from pipeline.attribution.incremental import winograd
from pipeline.attribution.incremental.deltas import memory_format
from pipeline.attribution.incremental.stages import Convolution
from pipeline.attribution.incremental.steps import Averaged, Joined, LocalStep, Opaque, Step, Windowed
from pipeline.attribution.incremental.translate import Translator, affine_of
from pipeline.models.graph.captured import CapturedGraph
from pipeline.models.graph.operation import Batch, Operation

SHRINKS = 0.5
"""Occlusions wait for others where what they hold has shrunk to this, so that more go on together."""


@dataclass(frozen=True, eq=False)
class Section:
    """Steps that one batch of occlusions goes through at once.

    Attributes
    ----------
    local : tuple of LocalStep
        Computed in boxes.
    rest : tuple of Step
        After them, computed in full.
    value, result : str
        The one value that goes in, and the one that comes out.
    """

    local: tuple[LocalStep, ...]
    rest: tuple[Step, ...]
    value: str
    result: str

    @property
    def steps(self) -> tuple[Step, ...]:
        """All of them."""
        return (*self.local, *self.rest)


@dataclass(frozen=True, eq=False)
class Plan:
    """What is computed, in order: first all that is local, then the rest.

    Attributes
    ----------
    source, output : str
        Names of the image and of the logits.
    local : tuple of LocalStep
        A change of the image changes only boxes of their results.
    rest : tuple of Step
        Computed in full from where locality ends.
    fixed : mapping
        Activation-shaped values that do not depend on the image.
    shape : tuple of int
        Shape of one image, (1, C, *spatial).
    dtype : torch.dtype
    """

    source: str
    output: str
    local: tuple[LocalStep, ...]
    rest: tuple[Step, ...]
    fixed: Mapping[str, torch.Tensor]
    shape: tuple[int, ...]
    dtype: torch.dtype

    @cached_property
    def frontier(self) -> tuple[str, ...]:
        """Local values that the rest reads."""
        made = {self.source, *(s.name for s in self.local)}
        read = [n for step in self.rest for n in step.inputs if n in made]
        return tuple(dict.fromkeys([*read, *([self.output] if self.output in made else [])]))

    @cached_property
    def needed(self) -> frozenset[str]:
        """Values of the untouched image to keep."""
        names = {n for step in self.local for n in step.needs_clean} | set(self.frontier)
        names |= {s.name for s in self.rest if isinstance(s, Averaged)}
        return frozenset((names | {self.source, self.output}) - set(self.fixed))

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all values for one image."""
        return {self.source: self.shape, **{s.name: s.shape for s in (*self.local, *self.rest)}}

    @cached_property
    def stretches(self) -> tuple[tuple[Section, ...], ...]:
        """Sections in order, put together so that from one stretch to the next occlusions hold much less."""
        stretches: list[tuple[Section, ...]] = []
        stretch: list[Section] = []
        most = 0
        for section in self.sections:
            stretch.append(section)
            left = prod(self.shapes[section.result])
            most = max(most, left)
            if left <= SHRINKS * most:
                stretches.append(tuple(stretch))
                stretch, most = [], 0
        return tuple(stretches) + ((tuple(stretch),) if stretch else ())

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """All steps, cut wherever a single value is alive: while local, one whose untouched form is kept."""
        steps = (*self.local, *self.rest)
        last = {n.partition(":")[0]: i for i, step in enumerate(steps) for n in step.inputs}
        last[self.output] = len(steps)
        ends = len(self.local) if self.rest else len(steps) + 1
        sections: list[Section] = []
        alive, begin, value, most = {self.source}, 0, self.source, 0
        for i, step in enumerate(steps):
            alive = {n for n in alive | {step.name} if last.get(n, -1) > i}
            most = max(most, prod(step.shape))
            if i < ends - 1:
                cut = step.name in self.needed
            else:  # where locality ends, boxes are pasted and the rest is begun in one go
                cut = i >= ends and step.divisible and prod(step.shape) <= SHRINKS * most
            if (cut and alive == {step.name}) or i == len(steps) - 1:
                middle = min(max(ends, begin), i + 1)
                local, rest = self.local[begin:middle], steps[middle : i + 1]
                sections.append(Section(local, rest, value, step.name if i < len(steps) - 1 else self.output))
                begin, value, most = i + 1, step.name, 0
        return tuple(sections)

    @cached_property
    def ahead(self) -> dict[str, float]:
        """Multiplications of all local steps after each local value, for a whole image."""
        left = 0.0
        found = {}
        for step in reversed(self.local):
            found[step.name] = left
            left += float(step.effort(step.limit[None])[0])
        return found

    def prepare(self, room: float = float("inf")) -> int:
        """Transform, fold and lay out weights within `room` bytes.

        First those for Winograd's filtering, then the others; those first that are few for what they compute.

        Returns
        -------
        int
            Bytes taken.
        """
        layout = memory_format(len(self.shape) - 2, self.dtype)
        found = [
            (prod(step.shape), stage)
            for step in (*self.local, *self.rest)
            for stage in (step.stages if isinstance(step, Windowed) else ())
            if isinstance(stage, Convolution)
        ]
        taken = between = 0
        needs = [
            (sum(bytes_) / outputs, *bytes_, stage)
            for outputs, stage in found
            if stage.transformable
            for bytes_ in [winograd.room(stage.weight, stage.limit.tolist())]
        ]
        for _, weights, scratch, stage in sorted(needs, key=lambda one: one[0]):
            if taken + weights + max(between, scratch) <= room:
                taken, between = taken + weights, max(between, scratch)
                stage.transform()
                found = [one for one in found if one[1] is not stage]
        taken += between
        for _, stage in sorted(found, key=lambda one: one[1].copies(layout) / one[0]):
            if taken + stage.copies(layout) <= room:
                taken += stage.copies(layout)
                stage.prepare(layout)
        return taken


def make_plan(
    graph: CapturedGraph, channels: int, dtype: torch.dtype, apart: frozenset[str] = frozenset()
) -> Plan:
    """Make the plan of a captured graph, with the weights the model has now.

    Poolings named in `apart` are not joined to the convolution before them.
    """
    return _Planner(graph, channels, dtype, apart).plan()


class _Planner:
    def __init__(
        self, graph: CapturedGraph, channels: int, dtype: torch.dtype, apart: frozenset[str]
    ) -> None:
        self.graph = graph
        self.apart = apart
        self.weights = graph.static(1)
        self.dtype = dtype
        self.shape = (1, channels, *graph.spatial)
        self.shapes = {graph.source: self.shape}
        self.translate = Translator(self.weights, self.shapes)
        self.steps: dict[str, Step] = {}
        self.read = {name.partition(":")[0] for name in graph.readers if ":" in name}
        self._batch_counts = any(
            not op.dynamic and any(isinstance(d, Batch) for d in op.shape) for op in graph.operations
        )
        self._statics = {1: self.weights}

    def plan(self) -> Plan:
        for op in self.graph.operations:
            if op.dynamic:
                self.shapes[op.name] = op.shape_for(1)
                self._add(op)
        local, rest, inside = [], [], {self.graph.source}
        fixed: dict[str, torch.Tensor] = {}
        for step in self.steps.values():
            dynamic = [n for n in step.inputs if n not in self.weights]
            if isinstance(step, LocalStep) and all(n in inside for n in dynamic):
                local.append(step)
                inside.add(step.name)
            else:
                rest.append(step)
            if isinstance(step, LocalStep):
                fixed |= {n: self.weights[n] for n in step.inputs if n in self.weights}
        ends = self.graph.source, self.graph.output
        return Plan(*ends, tuple(local), tuple(rest), fixed, self.shape, self.dtype)

    def _add(self, op: Operation) -> None:
        step = self.translate(op) if op.name not in self.read else None
        if step is None:
            step = Opaque(op.name, self._dynamic(op), op.shape_for(1), op, self._static, fresh=False)
        before = self.steps.get(step.inputs[0]) if len(step.inputs) == 1 else None
        if before is not None and self._only_reader(before.name):
            if isinstance(step, Joined):
                if self._fold(op, before) or self._touch(step, before):
                    self._rename(before, step)
                    return
            elif isinstance(step, Windowed) and before.fresh and step.fresh and op.kind == "max_pool":
                self._activate_after(step, before)
            if isinstance(step, Windowed) and self._follows(step, before):
                self._rename(before, step)
                return
        self.steps[step.name] = step

    def _dynamic(self, op: Operation) -> tuple[str, ...]:
        return tuple(n for n in dict.fromkeys(op.inputs) if n not in self.weights)

    def _static(self, images: int) -> Mapping[str, torch.Tensor]:
        images = images if self._batch_counts else 1
        if images not in self._statics:
            self._statics[images] = self.graph.static(images)
        return self._statics[images]

    def _only_reader(self, name: str) -> bool:
        return len(self.graph.readers.get(name, ())) == 1 and name != self.graph.output

    def _rename(self, before: Step, step: Step) -> None:
        """Let `before` stand for `step` as well."""
        del self.steps[before.name]
        before.name, before.shape = step.name, step.shape
        self.steps[before.name] = before

    def _fold(self, op: Operation, before: Step) -> bool:
        """BatchNorm after a convolution is part of it."""
        if op.kind != "batch_norm" or before.touches or not isinstance(before, Windowed):
            return False
        stage = before.stages[-1]
        if not isinstance(stage, Convolution):
            return False
        if stage.scale is not None:
            return False
        stage.normalise(*affine_of(op, self.weights))
        return True

    @staticmethod
    def _touch(step: Joined, before: Step) -> bool:
        if step.as_touch is None or not before.fresh:
            return False
        before.touches.append(step.as_touch)
        return True

    @staticmethod
    def _activate_after(step: Windowed, before: Step) -> None:
        """max(ReLU(x)) = ReLU(max(x)): fewer numbers to rectify."""
        while before.touches and before.touches[-1].rising:
            step.touches.insert(0, before.touches.pop())

    def _follows(self, step: Windowed, before: Step) -> bool:
        """Pooling right after a convolution: what is between need not be kept."""
        if not isinstance(before, Windowed) or before.touches or not before.fresh or not step.fresh:
            return False
        if step.name in self.apart:
            return False
        if not isinstance(before.stages[-1], Convolution) or isinstance(step.stages[0], Convolution):
            return False
        if type(step.stages[0]).__name__ not in {"MaxPool", "AvgPool"}:
            return False
        before.stages += step.stages
        before.pooling = step.name
        before.touches = step.touches
        return True

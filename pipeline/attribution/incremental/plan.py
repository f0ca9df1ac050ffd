"""The plan: the captured graph with BatchNorm folded, activations in place, pooling joined to convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from pipeline.attribution.incremental.deltas import memory_format
from pipeline.attribution.incremental.stages import Convolution
from pipeline.attribution.incremental.steps import Averaged, Joined, LocalStep, Opaque, Step, Windowed
from pipeline.attribution.incremental.translate import Translator, affine_of
from pipeline.models.graph.captured import CapturedGraph
from pipeline.models.graph.operation import Batch, Operation


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
    """

    source: str
    output: str
    local: tuple[LocalStep, ...]
    rest: tuple[Step, ...]
    fixed: Mapping[str, torch.Tensor]
    shape: tuple[int, ...]

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
    def segments(self) -> tuple[tuple[LocalStep, ...], ...]:
        """Local steps, cut wherever a single changing value is alive whose untouched form is kept."""
        last: dict[str, int] = {}
        for i, step in enumerate(self.local):
            last.update(dict.fromkeys(step.inputs, i))
        last.update(dict.fromkeys(self.frontier, len(self.local)))
        alive: set[str] = {self.source}
        cuts, begin = [], 0
        for i, step in enumerate(self.local):
            alive = {n for n in alive | {step.name} if last.get(n, -1) > i}
            if alive == {step.name} and step.name in self.needed:
                cuts.append(self.local[begin : i + 1])
                begin = i + 1
        if begin < len(self.local):
            cuts.append(self.local[begin:])
        return tuple(cuts)


def make_plan(graph: CapturedGraph, channels: int, dtype: torch.dtype) -> Plan:
    """Make the plan of a captured graph, with the weights the model has now."""
    return _Planner(graph, channels, dtype).plan()


class _Planner:
    def __init__(self, graph: CapturedGraph, channels: int, dtype: torch.dtype) -> None:
        self.graph = graph
        self.weights = graph.static(1)
        self.layout = memory_format(len(graph.spatial), dtype)
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
        for step in self.steps.values():
            self._lay_out(step)
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
        return Plan(self.graph.source, self.graph.output, tuple(local), tuple(rest), fixed, self.shape)

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
        scale, shift = affine_of(op, self.weights)
        weight = stage.weight.double() * scale.reshape(-1, *[1] * (stage.weight.ndim - 1))
        bias = shift if stage.bias is None else stage.bias.double() * scale + shift
        kind = stage.weight.dtype  # rounded once
        before.stages[-1] = replace(stage, weight=weight.to(kind), bias=bias.to(kind))
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

    @staticmethod
    def _follows(step: Windowed, before: Step) -> bool:
        """Pooling right after a convolution: what is between need not be kept."""
        if not isinstance(before, Windowed) or before.touches or not before.fresh or not step.fresh:
            return False
        if not isinstance(before.stages[-1], Convolution) or isinstance(step.stages[0], Convolution):
            return False
        if type(step.stages[0]).__name__ not in {"MaxPool", "AvgPool"}:
            return False
        before.stages += step.stages
        before.touches = step.touches
        return True

    def _lay_out(self, step: Step) -> None:
        for stage in step.stages if isinstance(step, Windowed) else ():
            if isinstance(stage, Convolution):
                stage.weight = stage.weight.contiguous(memory_format=self.layout)

"""The walk back: from the seed at the logits to the image, operation by operation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch

from pipeline.attribution.propagation.linear_map import LinearMap
from pipeline.attribution.propagation.operations import Walk, needs, pass_back
from pipeline.attribution.propagation.rules import Rule
from pipeline.models.graph.captured import CapturedGraph, execute, needed_for
from pipeline.models.graph.folding import fold_batch_norm
from pipeline.models.graph.layout import fast_layout, weight_layout
from pipeline.models.graph.operation import Operation

_STAYS_POSITIVE = frozenset(
    {"max_pool", "adaptive_max_pool", "maximum", "avg_pool", "adaptive_avg_pool", "mean", "sum"}
    | {
        "cat",
        "stack",
        "view",
        "permute",
        "slice",
        "squeeze",
        "expand",
        "flip",
        "edge_pad",
        "upsample_nearest",
    }
)


@dataclass(frozen=True, eq=False)
class Forward:
    """A forward pass, with what the walk back needs of it.

    Attributes
    ----------
    graph : CapturedGraph
    operations : tuple of Operation
        BatchNorm folded, in order.
    values : dict
        Kept activations and everything static.
    logits : torch.Tensor, shape (N, outputs)
    """

    graph: CapturedGraph
    operations: tuple[Operation, ...]
    values: dict[str, torch.Tensor]
    logits: torch.Tensor


@dataclass(frozen=True, eq=False)
class Result:
    """Relevance of the image, and what became of the rest, one number an image."""

    relevance: torch.Tensor
    bias: torch.Tensor
    absorbed: torch.Tensor


def forward(graph: CapturedGraph, images: torch.Tensor) -> Forward:
    """Compute the logits of `images` and keep what a walk back needs."""
    folded = fold_batch_norm(graph, len(images))
    operations = needed_for(folded.operations, {graph.source}, {graph.output})
    operations = _in_place(operations, graph)
    keep = {name for op in operations for name in needs(op, graph.dynamic)} | {graph.output, graph.source}
    values = dict(folded.values)
    values[graph.source] = fast_layout(images)
    for op in operations:
        if op.kind == "convolution" and (weight := op.source("weight")) in values:
            layout = weight_layout(values[weight], math.prod(op.shape_for(1)[2:]))
            values[weight] = values[weight].contiguous(memory_format=layout)
    with torch.no_grad():
        execute(operations, values, len(images), keep)
    return Forward(graph, tuple(operations), values, values[graph.output])


def _in_place(operations: list[Operation], graph: CapturedGraph) -> list[Operation]:
    """Let a ReLU overwrite a convolution's result that nothing else reads: no rule looks at it again."""
    readers = Counter(name for op in operations for name in op.inputs)
    fresh = {op.name for op in operations if op.kind == "convolution" and readers[op.name] == 1}
    fresh -= {graph.output, graph.source}
    return [
        replace(op, target=torch.relu_) if op.kind == "relu" and op.inputs[0] in fresh else op
        for op in operations
    ]


def walk_back(
    passed: Forward,
    seed: torch.Tensor,
    rules: Mapping[str, Rule],
    epsilon: float,
    instead: Mapping[str, Rule] | None = None,
) -> Result:
    """Pass the seed, relevance of the logits (N, outputs), back to the image.

    Parameters
    ----------
    passed : Forward
    seed : torch.Tensor, shape (N, outputs)
    rules : mapping
        Name of weighted operation → its rule.
    epsilon : float
        The stabiliser ε ≥ 0 of every rule.
    instead : mapping, optional
        Overrides of `rules`.
    """
    graph, images = passed.graph, len(seed)
    walk = Walk(
        makers={op.name: op for op in passed.operations},
        dynamic=graph.dynamic,
        values=dict(passed.values),
        images=images,
        epsilon=epsilon,
        bias=seed.new_zeros(images),
        absorbed=seed.new_zeros(images),
        shapes={op.name: op.shape_for(images) for op in passed.operations},
    )
    walk.shapes[graph.source] = tuple(passed.values[graph.source].shape)
    positive = never_negative(passed.operations)
    relevance = {graph.output: seed}
    summed: set[str] = set()  # whose relevance is a tensor of this walk's own, no view of another
    with torch.no_grad():
        for op in reversed(passed.operations):
            arrived = relevance.pop(op.name, None)
            if arrived is None:
                continue
            shares: Iterable[tuple[str, torch.Tensor]]
            if op.name in rules:
                shares = _weighted(walk, op, arrived, (instead or {}).get(op.name, rules[op.name]), positive)
            else:
                shares = pass_back(walk, op, arrived)
            for name, share in shares:
                if name in summed:
                    relevance[name] += share
                elif name in relevance:
                    relevance[name] = relevance[name] + share
                    summed.add(name)
                else:
                    relevance[name] = share
            walk.values.pop(op.name, None)
    image = relevance.get(graph.source)
    if image is None:
        image = torch.zeros_like(passed.values[graph.source])
    return Result(image.contiguous(), walk.bias, walk.absorbed)


def _weighted(
    walk: Walk, op: Operation, arrived: torch.Tensor, rule: Rule, positive: frozenset[str]
) -> list[tuple[str, torch.Tensor]]:
    source = op.source("input") or ""
    layer = LinearMap.of(op, walk.values, walk.images, nonnegative=source in positive)
    share, bias, absorbed = rule(layer, walk.values[source], arrived, walk.epsilon)
    walk.bias, walk.absorbed = walk.bias + bias, walk.absorbed + absorbed
    return [(source, share)]


def never_negative(operations: tuple[Operation, ...]) -> frozenset[str]:
    """Names of values that cannot be negative, whatever the image."""
    positive: set[str] = set()
    for op in operations:
        lower = op.arguments.get("min_val", op.arguments.get("min"))
        bounded = op.kind in {"hardtanh", "clamp"} and isinstance(lower, int | float) and lower >= 0
        inherited = op.kind in _STAYS_POSITIVE or (op.kind == "add" and op.arguments.get("alpha") == 1)
        moving = [n.partition(":")[0] for n in op.inputs]
        if op.kind in {"relu", "sigmoid", "hardsigmoid", "softplus"} or bounded:
            positive.add(op.name)
        elif inherited and moving and all(n in positive for n in moving):
            numbers = [v for k, v in op.arguments.items() if k == "other" and isinstance(v, int | float)]
            if all(v >= 0 for v in numbers):
                positive.add(op.name)
    return frozenset(positive)

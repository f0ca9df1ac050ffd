"""BatchNorm folded into what stands before it: fewer operations, the same function.

A BatchNorm that alone reads a convolution or linear layer becomes part of it, per call: a layer used twice
before two BatchNorms is folded twice. One that stands alone (DenseNet) becomes an `affine` operation:
`input · weight + bias` per channel. Folded weights are computed from the weights as they are now.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from pipeline.models.graph.layout import weight_layout
from pipeline.models.graph.operation import Operation, Ref

if TYPE_CHECKING:
    from pipeline.models.graph.captured import CapturedGraph


@dataclass(frozen=True, eq=False)
class Folded:
    """A graph without BatchNorm.

    Attributes
    ----------
    operations : tuple of Operation
        The operations that depend on the image; the result of a folded pair has the BatchNorm's name.
    values : dict
        Value name → tensor for everything that does not depend on the image, folded weights included.
    """

    operations: tuple[Operation, ...]
    values: dict[str, torch.Tensor]


def fold_batch_norm(graph: CapturedGraph, images: int, keep: Iterable[str] = ()) -> Folded:
    """Fold every BatchNorm of a graph.

    Parameters
    ----------
    graph : CapturedGraph
    images : int
        Size of the batch.
    keep : iterable of str
        Names of values that must stay computable: a layer whose own result is wanted is not folded.
    """
    values = graph.static(images)
    wanted = {graph.output, *keep}
    operations: dict[str, Operation] = {}
    for op in graph.operations:
        if not op.dynamic:
            continue
        if op.kind != "batch_norm" or any(source in graph.dynamic for source in op.inputs[1:]):
            operations[op.name] = op
            continue
        scale, shift = _scale_and_shift(op, values)
        before = op.source("input") or ""
        layer = operations.get(before)
        alone = layer is not None and before not in wanted and graph.readers[before] == (op,)
        if layer is not None and alone and _folds(layer, values):
            operations[op.name] = _into(layer, op, scale, shift, values)
            del operations[before]
        else:
            operations[op.name] = _affine(op, scale, shift, values)
    return Folded(tuple(operations.values()), values)


def affine(input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:  # noqa: A002
    """Compute `input · weight + bias`."""
    return torch.addcmul(bias, input, weight)


def _scale_and_shift(norm: Operation, values: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    mean, var = values[norm.source("running_mean") or ""], values[norm.source("running_var") or ""]
    weight, bias = norm.source("weight"), norm.source("bias")
    scale = torch.rsqrt(var + norm.arguments["eps"])
    if weight is not None:
        scale = scale * values[weight]
    shift = -mean * scale
    return scale, shift if bias is None else shift + values[bias]


def _folds(layer: Operation, values: dict[str, torch.Tensor]) -> bool:
    return layer.kind in {"convolution", "linear"} and layer.source("weight") in values


def _into(
    layer: Operation,
    norm: Operation,
    scale: torch.Tensor,
    shift: torch.Tensor,
    values: dict[str, torch.Tensor],
) -> Operation:
    weight = values[layer.source("weight") or ""]
    if layer.arguments.get("transposed"):  # weight: in × out/groups × kernel
        groups = layer.arguments["groups"]
        parts = scale.reshape(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1)
        folded = weight * parts.reshape(weight.shape[:2]).reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))
    else:
        layout = weight_layout(weight, math.prod(norm.shape_for(1)[2:]))
        folded = torch.empty_like(weight, memory_format=layout)
        torch.mul(weight, scale.reshape(-1, *[1] * (weight.ndim - 1)), out=folded)
    bias = layer.source("bias")
    names = f"{norm.name}.weight", f"{norm.name}.bias"
    values[names[0]] = folded
    values[names[1]] = shift if bias is None else shift + values[bias] * scale
    arguments = {**layer.arguments, "weight": Ref(names[0]), "bias": Ref(names[1])}
    return replace(layer, name=norm.name, arguments=arguments, shape=norm.shape)


def _affine(
    norm: Operation, scale: torch.Tensor, shift: torch.Tensor, values: dict[str, torch.Tensor]
) -> Operation:
    channels = (-1, *[1] * (len(norm.shape) - 2))
    names = f"{norm.name}.weight", f"{norm.name}.bias"
    values[names[0]], values[names[1]] = scale.reshape(channels), shift.reshape(channels)
    arguments = {"input": norm.arguments["input"], "weight": Ref(names[0]), "bias": Ref(names[1])}
    return replace(norm, kind="affine", target=affine, arguments=arguments)

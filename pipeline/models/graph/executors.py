"""Rewrite the operations whose ATen form is inconvenient into one explicit form each.

Afterwards a convolution is always `aten.convolution`, a BatchNorm always uses its running statistics
(whatever the training flag was), a view never depends on the memory layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch.nn import functional

from pipeline.models.graph.operation import Operation

_CONVOLUTION = [
    "input",
    "weight",
    "bias",
    "stride",
    "padding",
    "dilation",
    "transposed",
    "output_padding",
    "groups",
]


def batch_norm(
    input: torch.Tensor,  # noqa: A002
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    eps: float,
) -> torch.Tensor:
    """BatchNorm with its running statistics."""
    return functional.batch_norm(input, running_mean, running_var, weight, bias, training=False, eps=eps)


def _convolution(op: Operation) -> Operation:
    arguments = {name: op.arguments[name] for name in _CONVOLUTION}
    return replace(op, target=torch.ops.aten.convolution.default, arguments=arguments)


def _batch_norm(op: Operation) -> Operation:
    given = op.arguments
    if given.get("running_mean") is None or given.get("running_var") is None:
        return replace(op, kind="instance_norm")  # statistics of the image itself
    arguments = {name: given[name] for name in ("input", "weight", "bias", "running_mean", "running_var")}
    arguments["eps"] = given.get("eps", given.get("epsilon"))
    return replace(op, target=batch_norm, arguments=arguments, outputs=1, keyword_only=frozenset())


def _view(op: Operation) -> Operation:
    size = next(v for k, v in op.arguments.items() if k in {"size", "shape"})
    return replace(op, target=torch.reshape, arguments={"self": op.arguments["self"], "size": size})


EXECUTORS: dict[str, Callable[[Operation], Operation]] = {
    "convolution": _convolution,
    "batch_norm": _batch_norm,
    "view": _view,
}

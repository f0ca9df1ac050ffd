"""Rewrite the operations whose ATen form is inconvenient into one explicit form each.

Afterwards a convolution is always `convolve` (one number an axis), a BatchNorm always uses its running
statistics (whatever the training flag was), a view never depends on the memory layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.nn import functional

from pipeline.models.graph.convolution import convolve
from pipeline.models.graph.operation import Batch, Operation

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
    axes = len(op.shape) - 2
    for name in ("stride", "padding", "dilation", "output_padding"):  # one number stands for all axes
        given = arguments[name]
        arguments[name] = given * axes if len(given) == 1 else given
    return replace(op, target=convolve, arguments=arguments, keyword_only=frozenset())


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


FILLED = {"zeros_like": 0, "new_zeros": 0, "ones_like": 1, "new_ones": 1, "full_like": None, "new_full": None}


def filled(
    name: str,
    kind: str,
    arguments: Mapping[str, Any],
    shape: tuple[int | Batch, ...],
    like: torch.Tensor,
) -> Operation:
    """Make a tensor to another's measure: it depends on that one's shape only, so it is a constant."""
    value = arguments["fill_value"] if FILLED[kind] is None else FILLED[kind]
    given = {"size": list(shape), "fill_value": value, "dtype": like.dtype, "device": like.device}
    named = frozenset({"dtype", "device"})
    return Operation(name, "full", torch.full, given, shape, dynamic=False, keyword_only=named)


EXECUTORS: dict[str, Callable[[Operation], Operation]] = {
    "convolution": _convolution,
    "batch_norm": _batch_norm,
    "view": _view,
}

"""Convolutions and their transposes by the fastest path there is.

For one volume at a time torch computes small 3D convolutions by unrolling, 7 to 12 times slower than oneDNN
does on the same CPU; so oneDNN is asked directly. Elsewhere torch's own choice is taken.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from pipeline.models.graph.layout import heavy

_MIRROR = 8  # so many times heavier, and mirroring the weights costs more than the fast path saves


def convolve(
    input: torch.Tensor,  # noqa: A002
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> torch.Tensor:
    """Convolve like `aten.convolution`; differentiable, on the fast path with respect to `input` only."""
    settings = (stride, padding, dilation, transposed, output_padding, groups)
    input = _like_weights(input, weight)  # noqa: A001
    if not _direct(input, weight, transposed):
        return torch.convolution(input, weight, bias, *settings)
    if torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad):
        if weight.requires_grad or (bias is not None and bias.requires_grad):
            return torch.convolution(input, weight, bias, *settings)
        function: Any = _Direct
        return function.apply(input, weight, bias, settings)  # type: ignore[no-any-return]
    return _by_onednn(input, weight, bias, stride, padding, dilation, groups)


def convolve_back(
    s: torch.Tensor, weight: torch.Tensor, like: torch.Tensor, settings: Sequence[Any]
) -> torch.Tensor:
    """Transpose a convolution: Σ_k w_jk s_k, of the shape of its input `like`.

    `settings` are stride, padding, dilation, transposed, output_padding and groups.
    """
    stride, padding, dilation, transposed, _, groups = settings
    s = _like_weights(s, weight)
    usable = _direct(s, weight, transposed) and not heavy(weight, _MIRROR * math.prod(s.shape[2:]))
    if usable and all(step == 1 for step in stride):
        around = [d * (k - 1) - p for d, k, p in zip(dilation, weight.shape[2:], padding, strict=True)]
        if min(around) >= 0:
            mirrored = weight.flip(tuple(range(2, weight.ndim)))
            mirrored = mirrored.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2)
            return _by_onednn(s, mirrored.flatten(0, 1), None, stride, around, dilation, groups)
    gradient = torch.ops.aten.convolution_backward.default
    return gradient(s, like, weight, None, *settings, [True, False, False])[0]  # type: ignore[no-any-return]


def _like_weights(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Bring a small activation into the order of many weights; the other way round it costs more."""
    if x.ndim < 4 or not heavy(weight, math.prod(x.shape[2:])) or not weight.is_contiguous():
        return x
    return x.contiguous()


class _Direct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, settings: Sequence[Any]
    ) -> torch.Tensor:
        ctx.save_for_backward(weight)
        ctx.settings, ctx.like = settings, x.new_empty(()).expand(x.shape)
        stride, padding, dilation, _, _, groups = settings
        return _by_onednn(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, arrived: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (weight,) = ctx.saved_tensors
        return convolve_back(arrived, weight, ctx.like, ctx.settings), None, None, None


def convolve_forward(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> torch.Tensor:
    """Convolve where no gradient is wanted: on the fast path in 2D as well, tensors as they lie."""
    if x.ndim in {4, 5} and _on_onednn(x, weight):
        return _by_onednn(x, weight, bias, stride, padding, dilation, groups)
    settings = (stride, padding, dilation, False, [0] * len(padding), groups)
    return torch.convolution(x, weight, bias, *settings)


def _direct(x: torch.Tensor, weight: torch.Tensor, transposed: bool) -> bool:
    """Whether to ask oneDNN: a volume in 32 bits on a CPU."""
    return x.ndim == 5 and not transposed and _on_onednn(x, weight)


def _on_onednn(x: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether oneDNN computes convolutions of such tensors."""
    fitting = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and x.numel() > 0
    return fitting and bool(torch._C._has_mkldnn) and bool(torch.backends.mkldnn.enabled)  # noqa: SLF001


def _by_onednn(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> torch.Tensor:
    convolution = torch.ops.aten.mkldnn_convolution.default
    return convolution(x, weight, bias, padding, stride, dilation, groups)  # type: ignore[no-any-return]

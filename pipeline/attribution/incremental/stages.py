"""Operations that look at a window of their input: convolution, pooling, padding, slicing.

Each stage computes on a window that was cut generously: padding is part of the window, filled with the
stage's `border`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.nn import functional

from pipeline.attribution.incremental import winograd
from pipeline.attribution.incremental.windows import Ints, Window, box_of
from pipeline.models.graph.convolution import convolve_forward

Pools = dict[int, Callable[..., torch.Tensor]]
FOLDED = 2**18
"""Weights folded at a time."""
_MAX: Pools = {2: functional.max_pool2d, 3: functional.max_pool3d}
_AVG: Pools = {2: functional.avg_pool2d, 3: functional.avg_pool3d}


@dataclass(eq=False)
class Stage:
    """One windowed operation.

    Attributes
    ----------
    window : Window
    limit : integer array, shape (axes,)
        Spatial shape of its result for a whole image.
    border : float
        What it reads outside the image.
    effort : float
        Multiplications an output position.
    reads : int
        Channels of its input; 0: as many as it makes.
    """

    window: Window
    limit: Ints
    border: float
    effort: float = 0.0
    reads: int = 0

    def compute(self, cut: torch.Tensor, starts: Ints, size: Ints) -> torch.Tensor:
        """Compute outputs at `starts`, of one `size`, from the windows that were cut for them."""
        raise NotImplementedError

    def whole(self, full: torch.Tensor) -> torch.Tensor:
        """Compute the outputs of a whole activation."""
        raise NotImplementedError


@dataclass(eq=False)
class Convolution(Stage):
    """Convolution, with BatchNorm after it: applied to its result, or folded into its weights.

    Folding (and laying out, or transforming for Winograd's filtering) takes a copy of the weights, so it is
    done where memory allows: see `prepare` and `transform`.

    Attributes
    ----------
    scale, shift : torch.Tensor of float64 or None, shape (channels,)
        BatchNorm that is still to be folded.
    """

    weight: torch.Tensor = field(kw_only=True)
    bias: torch.Tensor | None = field(kw_only=True)
    stride: list[int] = field(kw_only=True)
    padding: list[int] = field(kw_only=True)
    dilation: list[int] = field(kw_only=True)
    groups: int = field(kw_only=True)
    scale: torch.Tensor | None = field(default=None, kw_only=True)
    shift: torch.Tensor | None = field(default=None, kw_only=True)
    _rounded: tuple[torch.Tensor, ...] | None = field(default=None, init=False, repr=False)
    _transformed: tuple[torch.Tensor, torch.Tensor | None] | None = field(
        default=None, init=False, repr=False
    )

    def normalise(self, scale: torch.Tensor, shift: torch.Tensor) -> None:
        """Let a BatchNorm follow."""
        self.scale = scale
        self.shift = shift if self.bias is None else self.bias.double() * scale + shift
        self.bias = None

    def copies(self, layout: torch.memory_format) -> int:
        """Bytes that `prepare` takes."""
        ready = self.scale is None and self.weight.is_contiguous(memory_format=layout)
        return 0 if ready else self.weight.nbytes

    def prepare(self, layout: torch.memory_format) -> None:
        """Fold BatchNorm and bring the weights into `layout`, in a copy of them."""
        if not self.copies(layout):
            return
        weight = torch.empty_like(self.weight, memory_format=layout)
        if self.scale is None:
            self.weight = weight.copy_(self.weight)
            return
        assert self.shift is not None
        scale = self.scale.reshape(-1, *[1] * (weight.ndim - 1))
        some = max(1, FOLDED // max(weight[0].numel(), 1))
        parts = (torch.split(v, some) for v in (weight, self.weight, scale))
        for into, given, factor in zip(*parts, strict=True):
            into.copy_(given.double() * factor)  # rounded once
        self.weight, self.bias = weight, self.shift.to(weight.dtype)
        self.scale = self.shift = None

    @property
    def transformable(self) -> bool:
        """Whether Winograd's filtering is faster."""
        fresh = self._transformed is None
        return fresh and winograd.suits(self.weight, self.stride, self.dilation, self.groups)

    def transform(self) -> None:
        """Fold BatchNorm and transform the weights, in a copy of them."""
        some = max(1, FOLDED // max(self.weight[0].numel(), 1))
        bias = self.bias if self.shift is None else self.shift.to(self.weight.dtype)
        self._transformed = winograd.transformed(self.weight, self.scale, some), bias
        self.effort /= winograd.GAIN

    def compute(self, cut: torch.Tensor, starts: Ints, size: Ints) -> torch.Tensor:  # noqa: ARG002
        """Compute outputs from windows."""
        return self._apply(cut, [0] * len(self.padding))

    def whole(self, full: torch.Tensor) -> torch.Tensor:
        """Compute the outputs of a whole activation."""
        return self._apply(full, self.padding)

    def _apply(self, x: torch.Tensor, padding: list[int]) -> torch.Tensor:
        if self._transformed is not None:
            outputs = [n + 2 * p - 2 for n, p in zip(x.shape[2:], padding, strict=True)]
            if winograd.pays(len(x), outputs):
                return winograd.convolve(x, *self._transformed, padding)
        settings = (self.stride, padding, self.dilation, self.groups)
        if self.weight.numel() > x.numel() and self.weight.is_contiguous():
            x = x.contiguous()  # else the many weights were brought into its order, at every call
        result = convolve_forward(x, self.weight, self.bias, *settings)
        if self.scale is None or self.shift is None:
            return result
        if self._rounded is None:
            shape = (-1, *[1] * (result.ndim - 2))
            self._rounded = tuple(v.to(result.dtype).reshape(shape) for v in (self.scale, self.shift))
        scale, shift = self._rounded
        return torch.addcmul(shift, result, scale, out=result)


@dataclass(eq=False)
class MaxPool(Stage):
    """Max-pooling, also dilated; outside the image nothing is larger than −∞."""

    kernel: list[int] = field(kw_only=True)
    stride: list[int] = field(kw_only=True)
    padding: list[int] = field(kw_only=True)
    dilation: list[int] = field(kw_only=True)
    ceil_mode: bool = field(kw_only=True)

    def compute(self, cut: torch.Tensor, starts: Ints, size: Ints) -> torch.Tensor:  # noqa: ARG002
        """Compute outputs from windows."""
        if self._apart(cut):
            return _largest(cut, self.kernel)
        return _MAX[len(self.kernel)](cut, self.kernel, self.stride, 0, self.dilation)

    def whole(self, full: torch.Tensor) -> torch.Tensor:
        """Compute the outputs of a whole activation."""
        if self._apart(full) and not any(self.padding) and not self.ceil_mode:
            for axis, (n, k) in enumerate(zip(self.limit.tolist(), self.kernel, strict=True), 2):
                full = full.narrow(axis, 0, n * k)
            return _largest(full, self.kernel)
        return _MAX[len(self.kernel)](
            full, self.kernel, self.stride, self.padding, self.dilation, self.ceil_mode
        )

    def _apart(self, values: torch.Tensor) -> bool:
        """Whether the windows do not overlap."""
        return self.kernel == self.stride and max(self.dilation) == 1 and values.device.type == "cpu"


def _largest(cut: torch.Tensor, kernel: list[int]) -> torch.Tensor:
    """Max-pooling where windows do not overlap: axis by axis, which halves the time of torch's own."""
    for axis, k in enumerate(kernel, 2):
        before = (slice(None),) * axis
        largest = cut[(*before, slice(0, None, k))]
        for other in range(1, k):
            largest = torch.maximum(largest, cut[(*before, slice(other, None, k))])
        cut = largest
    return cut


@dataclass(eq=False)
class AvgPool(Stage):
    """Average pooling; `divisors` are given where they depend on the place (borders that do not count)."""

    kernel: list[int] = field(kw_only=True)
    stride: list[int] = field(kw_only=True)
    original: Callable[[torch.Tensor], torch.Tensor] = field(kw_only=True)
    divisor: float = field(kw_only=True)
    counts: list[Ints] | None = field(kw_only=True)

    def compute(self, cut: torch.Tensor, starts: Ints, size: Ints) -> torch.Tensor:  # noqa: ARG002
        """Compute outputs from windows."""
        axes = len(self.kernel)
        total = _AVG[axes](cut, self.kernel, self.stride, 0, divisor_override=1)
        if self.counts is None:
            return total.div_(self.divisor)
        for axis, counts in enumerate(self.counts):
            places = starts[:, axis, None] + np.arange(total.shape[2 + axis])
            shape = [len(starts), 1, *(-1 if a == axis else 1 for a in range(axes))]
            total.div_(torch.from_numpy(counts[places]).to(total).reshape(shape))
        return total

    def whole(self, full: torch.Tensor) -> torch.Tensor:
        """Compute the outputs of a whole activation."""
        return self.original(full)


@dataclass(eq=False)
class Cut(Stage):
    """Padding by a constant (or cropping), and slicing with a step."""

    step: tuple[int, ...] = field(kw_only=True)
    original: Callable[[torch.Tensor], torch.Tensor] = field(kw_only=True)

    def compute(self, cut: torch.Tensor, starts: Ints, size: Ints) -> torch.Tensor:  # noqa: ARG002
        """Compute outputs from windows."""
        return cut[(slice(None), slice(None), *(slice(None, None, s) for s in self.step))]

    def whole(self, full: torch.Tensor) -> torch.Tensor:
        """Compute the outputs of a whole activation."""
        return self.original(full)


@dataclass(eq=False)
class Transposed(Stage):
    """Transposed convolution: the window is that of the *inputs* an output needs."""

    weight: torch.Tensor = field(kw_only=True)
    bias: torch.Tensor | None = field(kw_only=True)
    stride: list[int] = field(kw_only=True)
    padding: list[int] = field(kw_only=True)
    dilation: list[int] = field(kw_only=True)
    output_padding: list[int] = field(kw_only=True)
    groups: int = field(kw_only=True)

    def compute(self, cut: torch.Tensor, starts: Ints, size: Ints) -> torch.Tensor:
        """Compute outputs from windows."""
        nothing = [0] * len(self.stride)
        settings = (self.stride, nothing, self.dilation, True, nothing, self.groups)
        spread = torch.convolution(cut, self.weight, self.bias, *settings)
        origin = self.window.needs(starts, size)[0] * self.window.stride - self.window.before
        parts = [box_of(spread, g, a, size)[0] for g, a in enumerate(starts - origin)]
        return torch.stack(parts)

    def whole(self, full: torch.Tensor) -> torch.Tensor:
        """Compute the outputs of a whole activation."""
        settings = (self.stride, self.padding, self.dilation, True, self.output_padding, self.groups)
        return torch.convolution(full, self.weight, self.bias, *settings)

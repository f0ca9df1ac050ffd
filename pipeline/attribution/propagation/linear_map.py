"""A convolution or linear layer as the linear map that the rules speak of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from pipeline.models.graph.convolution import convolve, convolve_back
from pipeline.models.graph.operation import Operation, resolve


@dataclass(frozen=True, eq=False)
class LinearMap:
    """z_k = Σ_j x_j w_jk + b_k, for a convolution of any kind or a linear layer.

    Attributes
    ----------
    weight : torch.Tensor
        As the operation holds it: out × in/groups × kernel (in × out/groups × kernel if transposed), or
        out × in.
    bias : torch.Tensor or None, shape (out,)
    settings : tuple
        Of the convolution: stride, padding, dilation, transposed, output_padding, groups; empty if linear.
    nonnegative : bool
        Promise that its inputs are never negative (they come from a ReLU).
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    settings: tuple[Any, ...] = ()
    nonnegative: bool = False

    @staticmethod
    def of(
        op: Operation, values: dict[str, torch.Tensor], images: int, *, nonnegative: bool = False
    ) -> LinearMap:
        """Read the map of a `convolution` or `linear` operation."""
        weight, bias = values[op.source("weight") or ""], op.source("bias")
        settings: tuple[Any, ...] = ()
        if op.kind == "convolution":
            names = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
            settings = tuple(resolve(op.arguments[n], values, images) for n in names)
        return LinearMap(weight, None if bias is None else values[bias], settings, nonnegative)

    @property
    def is_convolution(self) -> bool:
        """Whether it is a convolution."""
        return bool(self.settings)

    @property
    def groups(self) -> int:
        """Number of groups of channels that do not see each other."""
        return int(self.settings[5]) if self.settings else 1

    def sees_only_positive(self, x: torch.Tensor) -> bool:
        """Whether no input is negative."""
        return self.nonnegative or not bool(x.amin() < 0)

    def forward(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute Σ_j x_j w_jk + b_k with other weights in place of the map's own."""
        if self.settings:
            return convolve(x, weight, bias, *self.settings)
        return functional.linear(x, weight, bias)

    def adjoint(self, s: torch.Tensor, weight: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Compute Σ_k w_jk s_k, of the shape of the input `like`."""
        if not self.settings:
            return s @ weight
        return convolve_back(s, weight, like, self.settings)

    @property
    def results(self) -> int:
        """Number of output channels or features."""
        transposed = bool(self.settings) and bool(self.settings[3])
        return self.weight.shape[1] * self.groups if transposed else self.weight.shape[0]

    def per_result(self, s: torch.Tensor) -> torch.Tensor:
        """Sum over everything but images and output channels, shape (N, out)."""
        if self.settings:
            return s.sum(tuple(range(2, s.ndim)))
        return s.reshape(len(s), -1, s.shape[-1]).sum(1)

    def per_channel(self, vector: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """Shape a vector over output channels so that it broadcasts over the output `like`."""
        if not self.settings:
            return vector
        return vector.reshape(-1, *[1] * (like.ndim - 2))

"""The rules of layer-wise relevance propagation for weighted operations.

A rule says how the relevance R_k of an operation's results goes back to its inputs. With the stabiliser
s(z) = z + ε·sign(z), sign(0) = +1, every rule here has the form

    R_j = Σ_parts x_j Σ_k w_jk R_k / s(z_k),   z_k = Σ_parts Σ_j x_j w_jk + b_k

for its own split of inputs, weights and bias into parts. What the bias takes and what the stabiliser absorbs
is counted, so that every walk can prove what became of the relevance it started with.

References
----------
Bach et al. 2015, doi:10.1371/journal.pone.0130140 (ε, αβ); Montavon et al. 2017, arXiv:1512.02479 (w², z⁺,
z-box); Lapuschkin et al. 2019, arXiv:1902.10178 (flat); Montavon et al. 2019,
doi:10.1007/978-3-030-28954-6_10 (γ).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from pipeline.attribution.propagation.accounts import Passed, nothing, per_image, ratio
from pipeline.attribution.propagation.linear_map import LinearMap

Part = tuple[torch.Tensor, torch.Tensor]
"""Inputs and weights of one part of a rule."""


class Rule(Protocol):
    """`rule(map, x, relevance, epsilon)` → what became of the relevance."""

    def __call__(self, layer: LinearMap, x: torch.Tensor, relevance: torch.Tensor, epsilon: float) -> Passed:
        """Pass the relevance of a layer's results back to its inputs."""
        ...


@dataclass(frozen=True)
class Epsilon:
    """LRP-ε: in proportion to x_j w_jk."""

    def __call__(self, layer: LinearMap, x: torch.Tensor, relevance: torch.Tensor, epsilon: float) -> Passed:
        """Pass relevance back."""
        return _by_parts(layer, [(x, layer.weight)], layer.bias, relevance, epsilon)


@dataclass(frozen=True)
class ZPlus:
    """LRP-z⁺: in proportion to positive contributions only."""

    def __call__(self, layer: LinearMap, x: torch.Tensor, relevance: torch.Tensor, epsilon: float) -> Passed:
        """Pass relevance back."""
        parts, bias = _positive(layer, x)
        return _by_parts(layer, parts, bias, relevance, epsilon, nonnegative=True)


@dataclass(frozen=True)
class AlphaBeta:
    """LRP-αβ: α of the positive minus β of the negative contributions, α − β = 1."""

    alpha: float = 2.0
    beta: float = 1.0

    def __call__(self, layer: LinearMap, x: torch.Tensor, relevance: torch.Tensor, epsilon: float) -> Passed:
        """Pass relevance back."""
        parts, bias = _positive(layer, x)
        up = _by_parts(layer, parts, bias, relevance, epsilon, nonnegative=True)
        if self.beta == 0:
            return Passed(*(self.alpha * u for u in up))
        parts, bias = _negative(layer, x)
        down = _by_parts(layer, parts, bias, relevance, epsilon)
        return Passed(*(self.alpha * u - self.beta * d for u, d in zip(up, down, strict=True)))


@dataclass(frozen=True)
class Gamma:
    """LRP-γ: like ε, with contributions of the result's own sign weighted 1 + γ."""

    gamma: float = 0.25

    def __call__(self, layer: LinearMap, x: torch.Tensor, relevance: torch.Tensor, epsilon: float) -> Passed:
        """Pass relevance back."""
        z = _sum(layer, [(x, layer.weight)], layer.bias)
        parts, bias = _positive(layer, x)
        positive = _sum(layer, parts, bias)  # the rest, z - positive, is negative
        below = z < 0
        favoured = torch.where(below, z - positive, positive)
        weight = layer.weight
        up, down = weight + self.gamma * weight.clamp(min=0), weight + self.gamma * weight.clamp(max=0)
        s, absorbed = ratio(relevance, z + self.gamma * favoured, epsilon)
        lost = nothing(x)
        if layer.bias is not None:
            shifts = (
                layer.bias + self.gamma * layer.bias.clamp(max=0),
                layer.bias + self.gamma * layer.bias.clamp(min=0),
            )
            b = torch.where(below, layer.per_channel(shifts[0], z), layer.per_channel(shifts[1], z))
            lost = per_image(s * b)
        result = torch.zeros_like(x)
        for share, own, other in ((torch.where(below, 0, s), up, down), (torch.where(below, s, 0), down, up)):
            if bool(share.any()):
                result += x.clamp(min=0) * layer.adjoint(share, own, x)
                if not layer.sees_only_positive(x):
                    result += x.clamp(max=0) * layer.adjoint(share, other, x)
        return Passed(result, lost, absorbed)


@dataclass(frozen=True)
class WSquare:
    """LRP-w²: in proportion to squared weights, whatever the input."""

    def __call__(self, layer: LinearMap, x: torch.Tensor, relevance: torch.Tensor, epsilon: float) -> Passed:
        """Pass relevance back."""
        bias = None if layer.bias is None else layer.bias**2
        return _by_parts(
            layer, [(torch.ones_like(x), layer.weight**2)], bias, relevance, epsilon, nonnegative=True
        )


@dataclass(frozen=True)
class Flat:
    """LRP-flat: the same share for every input, whatever inputs and weights."""

    def __call__(self, layer: LinearMap, x: torch.Tensor, relevance: torch.Tensor, epsilon: float) -> Passed:
        """Pass relevance back."""
        if layer.groups > 1 or (layer.is_convolution and layer.settings[3]):
            ones = torch.ones_like(layer.weight)
            return _by_parts(layer, [(torch.ones_like(x), ones)], None, relevance, epsilon, nonnegative=True)
        # every input channel gets the same: one channel of ones does the work of all
        channels = x.shape[1] if layer.is_convolution else 1
        axis = 1 if layer.is_convolution else -1
        total = relevance.sum(axis, keepdim=True)
        one = x[:1, :1].new_ones(x[:1, :1].shape) if layer.is_convolution else torch.ones_like(x[:1])
        kernel = layer.weight[:1, :1] if layer.is_convolution else layer.weight[:1]
        kernel = torch.ones_like(kernel)
        z = layer.forward(one, kernel).mul_(channels)
        s, absorbed = ratio(total, z.expand_as(total), epsilon)
        share = layer.adjoint(s, kernel, one.expand(len(x), *one.shape[1:]))
        return Passed(share.expand_as(x), nothing(x), absorbed)


@dataclass(frozen=True, eq=False)
class ZBox:
    """LRP-z^B: in proportion to x_j w_jk − l_j w⁺_jk − h_j w⁻_jk, for inputs bounded by l ≤ x ≤ h.

    Attributes
    ----------
    low, high : torch.Tensor
        Bounds, broadcastable to the inputs.
    """

    low: torch.Tensor
    high: torch.Tensor

    def __call__(self, layer: LinearMap, x: torch.Tensor, relevance: torch.Tensor, epsilon: float) -> Passed:
        """Pass relevance back."""
        low, high = (-bound.to(x).expand_as(x).contiguous() for bound in (self.low, self.high))
        parts = [(x, layer.weight), (low, layer.weight.clamp(min=0)), (high, layer.weight.clamp(max=0))]
        return _by_parts(layer, parts, None, relevance, epsilon)


def _positive(layer: LinearMap, x: torch.Tensor) -> tuple[list[Part], torch.Tensor | None]:
    """Parts that contribute positively: x⁺w⁺ + x⁻w⁻, b⁺."""
    weight, bias = layer.weight, None if layer.bias is None else layer.bias.clamp(min=0)
    if layer.sees_only_positive(x):
        return [(x, weight.clamp(min=0))], bias
    return [(x.clamp(min=0), weight.clamp(min=0)), (x.clamp(max=0), weight.clamp(max=0))], bias


def _negative(layer: LinearMap, x: torch.Tensor) -> tuple[list[Part], torch.Tensor | None]:
    """Parts that contribute negatively: x⁺w⁻ + x⁻w⁺, b⁻."""
    weight, bias = layer.weight, None if layer.bias is None else layer.bias.clamp(max=0)
    if layer.sees_only_positive(x):
        return [(x, weight.clamp(max=0))], bias
    return [(x.clamp(min=0), weight.clamp(max=0)), (x.clamp(max=0), weight.clamp(min=0))], bias


def _sum(layer: LinearMap, parts: Sequence[Part], bias: torch.Tensor | None) -> torch.Tensor:
    (x, weight), *more = parts
    z = layer.forward(x, weight, bias)
    for x, weight in more:
        z += layer.forward(x, weight)
    return z


def _by_parts(
    layer: LinearMap,
    parts: Sequence[Part],
    bias: torch.Tensor | None,
    relevance: torch.Tensor,
    epsilon: float,
    *,
    nonnegative: bool = False,
) -> Passed:
    """Pass relevance back over parts; `nonnegative` promises that z ≥ 0."""
    if nonnegative and epsilon > 0:  # the stabiliser is a constant shift: z + ε comes out of the sum itself
        shift = layer.weight.new_full((layer.results,), epsilon)
        s = _sum(layer, parts, shift if bias is None else bias + shift)
        torch.div(relevance, s, out=s)
        by_channel = layer.per_result(s)
        absorbed = epsilon * by_channel.sum(1)
    else:
        s, absorbed = ratio(relevance, _sum(layer, parts, bias), epsilon, nonnegative=nonnegative)
        by_channel = layer.per_result(s)
    lost = nothing(relevance) if bias is None else by_channel @ bias
    result: torch.Tensor | None = None
    for x, weight in parts:
        share = layer.adjoint(s, weight, x).mul_(x)
        result = share if result is None else result.add_(share)
    assert result is not None
    return Passed(result, lost, absorbed)

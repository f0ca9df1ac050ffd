"""Every rule against a slow re-implementation: dense float64 matrices, sums written out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from pipeline.attribution.propagation.linear_map import LinearMap
from pipeline.attribution.propagation.rules import AlphaBeta, Epsilon, Flat, Gamma, Rule, WSquare, ZBox, ZPlus

Array = npt.NDArray[np.float64]

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(7, 5), (7,)),
    "linear without bias": (lambda: nn.Linear(7, 5, bias=False), (7,)),
    "1d": (lambda: nn.Conv1d(2, 3, 3, padding=1), (2, 7)),
    "1d strided, dilated, no bias": (lambda: nn.Conv1d(2, 4, 2, stride=2, dilation=2, bias=False), (2, 9)),
    "2d": (lambda: nn.Conv2d(3, 4, 3), (3, 6, 5)),
    "2d strided and padded": (lambda: nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 1)), (3, 5, 6)),
    "2d dilated and grouped": (lambda: nn.Conv2d(4, 6, 3, dilation=2, groups=2), (4, 6, 6)),
    "2d depthwise, no bias": (lambda: nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False), (4, 4, 4)),
    "2d transposed": (lambda: nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1), (3, 3, 3)),
    "2d transposed and grouped": (lambda: nn.ConvTranspose2d(4, 4, 2, stride=2, groups=2), (4, 3, 2)),
    "3d": (lambda: nn.Conv3d(2, 3, 2, padding=1), (2, 3, 3, 4)),
    "3d strided, dilated, grouped": (
        lambda: nn.Conv3d(2, 2, 2, stride=2, dilation=2, groups=2),
        (2, 5, 4, 5),
    ),
}
EPSILON = 1e-3


def stable(z: Array) -> Array:
    return z + EPSILON * np.where(z >= 0, 1.0, -1.0)


def share(c: Array, b: Array | float, R: Array) -> Array:
    """R_j = Σ_k c_jk / s(Σ_j c_jk + b_k) R_k for contributions c (inputs × outputs)."""
    return (c / stable(c.sum(0) + b) * R).sum(1)


def slow(rule: str, x: Array, W: Array, b: Array, R: Array, connected: Array) -> Array:
    """One image: x (inputs), W (inputs × outputs), b and R (outputs)."""
    X = x[:, None]
    xp, xn, wp, wn = X.clip(0), X.clip(None, 0), W.clip(0), W.clip(None, 0)
    bp, bn = b.clip(0), b.clip(None, 0)
    z = (X * W).sum(0) + b
    if rule == "epsilon":
        return share(X * W, b, R)
    if rule == "z_plus":
        return share(xp * wp + xn * wn, bp, R)
    if rule == "alpha2_beta1":
        return 2 * share(xp * wp + xn * wn, bp, R) - share(xp * wn + xn * wp, bn, R)
    if rule == "gamma":
        g = 0.25
        up = xp * (W + g * wp) + xn * (W + g * wn)
        down = xp * (W + g * wn) + xn * (W + g * wp)
        return share(up, b + g * bp, np.where(z >= 0, R, 0)) + share(down, b + g * bn, np.where(z < 0, R, 0))
    if rule == "w_square":
        return share(W**2, b**2, R)
    if rule == "flat":
        return share(connected, 0.0, R)
    low, high = -1.5, 2.0
    return share(X * W - low * wp - high * wn, 0.0, R)


RULES: dict[str, Rule] = {
    "epsilon": Epsilon(),
    "z_plus": ZPlus(),
    "alpha2_beta1": AlphaBeta(2.0, 1.0),
    "gamma": Gamma(0.25),
    "w_square": WSquare(),
    "flat": Flat(),
    "z_box": ZBox(torch.tensor(-1.5), torch.tensor(2.0)),
}


def dense(layer: nn.Module, shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """The layer as matrix W (inputs × outputs), bias b, and which input is connected to which output."""
    n = int(np.prod(shape))
    with torch.no_grad():
        zero = layer(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
        W = (layer(torch.eye(n, dtype=torch.float64).reshape(n, *shape)).flatten(1) - zero).numpy()
        kept = layer.weight.clone()
        layer.weight.fill_(1.0)
        connected = (layer(torch.eye(n, dtype=torch.float64).reshape(n, *shape)).flatten(1) - zero).numpy()
        layer.weight.copy_(kept)
    return W, zero.numpy(), np.round(connected)


def as_map(layer: nn.Module) -> LinearMap:
    bias = None if layer.bias is None else layer.bias.detach()
    if isinstance(layer, nn.Linear):
        return LinearMap(layer.weight.detach(), bias)
    transposed = isinstance(layer, nn.ConvTranspose2d)
    extra = list(layer.output_padding)
    settings = (
        list(layer.stride),
        list(layer.padding),
        list(layer.dilation),
        transposed,
        extra,
        layer.groups,
    )
    return LinearMap(layer.weight.detach(), bias, settings)


@pytest.mark.parametrize("positive", [False, True], ids=["any input", "input ≥ 0"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", LAYERS)
def test_rule_equals_matrices(kind: str, rule: str, positive: bool) -> None:
    torch.manual_seed(4)
    make, shape = LAYERS[kind]
    layer = make().double()
    x = torch.randn(2, *shape, dtype=torch.float64)
    x = x.clamp(min=0) if positive else x
    R = torch.randn_like(layer(x))
    passed = RULES[rule](as_map(layer), x, R.detach(), EPSILON)
    W, b, connected = dense(layer, shape)
    for i in range(2):
        flat = [t[i].detach().flatten().numpy() for t in (x, R)]
        wanted = slow(rule, flat[0], W, b, flat[1], connected)
        np.testing.assert_allclose(passed.relevance[i].flatten().numpy(), wanted, rtol=1e-10, atol=1e-10)
    booked = passed.relevance.flatten(1).sum(1) + passed.bias + passed.absorbed
    torch.testing.assert_close(booked, R.detach().flatten(1).sum(1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", LAYERS)
def test_laws_between_rules(kind: str) -> None:
    torch.manual_seed(5)
    make, shape = LAYERS[kind]
    layer = as_map(make().double())
    x = torch.randn(2, *shape, dtype=torch.float64)
    R = torch.randn_like(layer.forward(x, layer.weight))

    def relevance(rule: Rule) -> torch.Tensor:
        return rule(layer, x, R, 1e-6).relevance

    torch.testing.assert_close(relevance(Gamma(0.0)), relevance(Epsilon()), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(relevance(AlphaBeta(1.0, 0.0)), relevance(ZPlus()), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(relevance(Gamma(1e9)), _gamma_limit(layer, x, R), rtol=1e-4, atol=1e-6)


def _gamma_limit(layer: LinearMap, x: torch.Tensor, R: torch.Tensor) -> torch.Tensor:
    """γ → ∞ keeps the contributions of the result's own sign only: z⁺ above, its mirror image below."""
    z = layer.forward(x, layer.weight, layer.bias)
    mirrored = LinearMap(-layer.weight, None if layer.bias is None else -layer.bias, layer.settings)
    above = ZPlus()(layer, x, torch.where(z >= 0, R, 0), 0.0).relevance
    return above + ZPlus()(mirrored, x, torch.where(z < 0, R, 0), 0.0).relevance


@pytest.mark.parametrize("rule", [Epsilon(), ZPlus(), AlphaBeta(), Gamma()])
def test_nothing_over_nothing_is_nothing(rule: Rule) -> None:
    layer = LinearMap(torch.randn(3, 4, dtype=torch.float64), None)
    R = torch.zeros(1, 3, dtype=torch.float64)
    passed = rule(layer, torch.zeros(1, 4, dtype=torch.float64), R, 0.0)
    assert torch.equal(passed.relevance, torch.zeros(1, 4, dtype=torch.float64))

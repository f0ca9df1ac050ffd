"""A residual, a dense and a squeeze-excite block against references written by hand, without the graph."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.attribution import attribute

EPSILON = 1e-3
SHAPE = (1, 3, 5, 4)


def s(z: torch.Tensor) -> torch.Tensor:
    return torch.where(z >= 0, z + EPSILON, z - EPSILON)


def back(x: torch.Tensor, w: torch.Tensor, R: torch.Tensor) -> torch.Tensor:
    """x_j Σ_k w_jk R_k for a 3×3 convolution with padding 1 or a linear layer."""
    if w.ndim == 2:
        return x * (R @ w)
    return x * functional.conv_transpose2d(R, w, padding=w.shape[-1] // 2)


def z(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor | float) -> torch.Tensor:
    if w.ndim == 2:
        return x @ w.T + b
    shift = b.reshape(-1, 1, 1) if isinstance(b, torch.Tensor) else b
    return functional.conv2d(x, w, padding=w.shape[-1] // 2) + shift


def layer_rule(rule: str, x: torch.Tensor, w: torch.Tensor, b: torch.Tensor, R: torch.Tensor) -> torch.Tensor:
    up, down = lambda v: v.clamp(min=0), lambda v: v.clamp(max=0)
    if rule == "epsilon":
        return back(x, w, R / s(z(x, w, b)))
    if rule == "z_plus":
        share = R / s(z(up(x), up(w), up(b)) + z(down(x), down(w), 0.0))
        return back(up(x), up(w), share) + back(down(x), down(w), share)
    g, total = 0.25, z(x, w, b)
    result = torch.zeros_like(x)
    for chosen, own, other, shift in (
        (total >= 0, w + g * up(w), w + g * down(w), b + g * up(b)),
        (total < 0, w + g * down(w), w + g * up(w), b + g * down(b)),
    ):
        share = torch.where(chosen, R, 0) / s(z(up(x), own, shift) + z(down(x), other, 0.0))
        result += back(up(x), own, share) + back(down(x), other, share)
    return result


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return conv.weight * scale.reshape(-1, 1, 1, 1), (conv.bias - norm.running_mean) * scale + norm.bias


def drawn(model: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                value.copy_(
                    torch.rand_like(value) + 0.5 if name.endswith("var") else torch.randn_like(value) * 0.5
                )
    return model.double().eval().requires_grad_(requires_grad=False)


class Block(nn.Module):
    """A block, its mean over the image, and a linear layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(channels, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.block(x).mean((2, 3)))

    def head(self, rule: str, y: torch.Tensor, target: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Relevance of the block's result `y`, back through linear layer and mean."""
        pooled = y.mean((2, 3))
        logits = self.classifier(pooled)
        seed = torch.zeros_like(logits)
        seed[:, target] = logits[:, target]
        R = layer_rule(rule, pooled, self.classifier.weight, self.classifier.bias, seed)
        share = (R / s(pooled))[..., None, None] / y[0, 0].numel()
        return y * share, logits


class Residual(Block):
    def __init__(self) -> None:
        super().__init__(3)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)

    def block(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.norm(self.conv(x)) + x)

    def by_hand(self, rule: str, x: torch.Tensor, target: int) -> torch.Tensor:
        w, b = folded(self.conv, self.norm)
        branch = z(x, w, b)
        R, _ = self.head(rule, functional.relu(branch + x), target)
        share = R / s(branch + x)
        return layer_rule(rule, x, w, b, branch * share) + x * share


class Dense(Block):
    def __init__(self) -> None:
        super().__init__(5)
        self.norm = nn.BatchNorm2d(3)
        self.conv = nn.Conv2d(3, 2, 3, padding=1)

    def block(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, self.conv(functional.relu(self.norm(x)))], 1)

    def by_hand(self, rule: str, x: torch.Tensor, target: int) -> torch.Tensor:
        scale = self.norm.weight / (self.norm.running_var + self.norm.eps).sqrt()
        shift = self.norm.bias - self.norm.running_mean * scale
        scale, shift = scale.reshape(-1, 1, 1), shift.reshape(-1, 1, 1)
        normed = x * scale + shift
        active = functional.relu(normed)
        R, _ = self.head(rule, self.block(x), target)
        inner = layer_rule(rule, active, self.conv.weight, self.conv.bias, R[:, 3:])
        return R[:, :3] + x * scale * inner / s(normed)


class SqueezeExcite(Block):
    def __init__(self) -> None:
        super().__init__(3)
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.squeeze = nn.Linear(3, 2)
        self.excite = nn.Linear(2, 3)

    def block(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        gate = torch.sigmoid(self.excite(functional.relu(self.squeeze(y.mean((2, 3))))))
        return functional.relu(y * gate[..., None, None])

    def by_hand(self, rule: str, x: torch.Tensor, target: int) -> torch.Tensor:
        R, _ = self.head(rule, self.block(x), target)  # the gate hands all on to the signal
        return layer_rule(rule, x, self.conv.weight, self.conv.bias, R)


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize("rule", ["epsilon", "z_plus", "gamma"])
@pytest.mark.parametrize("kind", [Residual, Dense, SqueezeExcite])
def test_block_equals_hand_written_reference(kind: type[Block], rule: str, target: int) -> None:
    model = drawn(kind())
    x = torch.randn(SHAPE, dtype=torch.float64)
    result = attribute(model, x, target, "lrp", epsilon=EPSILON, rules={"*": rule})
    torch.testing.assert_close(result.values, model.by_hand(rule, x, target), rtol=1e-10, atol=1e-12)


def test_max_pool_ties_go_to_the_first() -> None:
    model = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1, 2, bias=False))
    x = torch.ones(1, 1, 2, 2)
    values = attribute(model, x, 0, "lrp", composite="epsilon").values
    assert torch.equal(values != 0, torch.tensor([[[[True, False], [False, False]]]]))


def test_maximum_over_the_image_goes_to_the_winner() -> None:
    class Maximum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x.amax((2, 3)))

    torch.manual_seed(0)
    model, x = Maximum(), torch.randn(1, 2, 3, 3)
    values = attribute(model, x, 1, "lrp", composite="epsilon", epsilon=1e-12).values
    wanted = torch.where(x == x.amax((2, 3), keepdim=True), x * model.layer.weight[1].reshape(1, 2, 1, 1), 0)
    torch.testing.assert_close(values, wanted.detach(), rtol=1e-4, atol=1e-6)


def test_constants_take_their_share_like_a_bias() -> None:
    class Shifted(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.cat([x + 2.0, torch.full_like(x, 3.0)], 1)
            return (y * 2.0 - 1.0).sum((2, 3))

    x = torch.full((1, 1, 1, 1), 1.0, dtype=torch.float64)
    own = attribute(Shifted(), x, 0, "lrp", composite="epsilon", epsilon=1e-12)
    torch.testing.assert_close(own.values.item(), 2.0)  # score 5 = 2·1 (image) + 4 − 1 (constants)
    torch.testing.assert_close(own.bias_share.item(), 3 / 5)
    constant = attribute(Shifted(), x, 1, "lrp", composite="epsilon", epsilon=1e-12)
    torch.testing.assert_close(constant.values.item(), 0.0)
    torch.testing.assert_close(constant.bias_share.item(), 1.0)

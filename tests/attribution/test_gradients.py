"""Gradients are those of the computed function, and what is built on them keeps its own laws."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.attribution import attribute
from pipeline.attribution.entrance import logits
from pipeline.errors import MethodError

STEP = 1e-8


def slope(model: nn.Module, image: torch.Tensor, direction: torch.Tensor, target: int) -> float:
    """Finite difference of the explained score along a direction."""

    def score(x: torch.Tensor) -> float:
        return float(logits(model, x)[0, target])

    return (score(image + STEP * direction) - score(image - STEP * direction)) / (2 * STEP)


def test_gradient_equals_finite_differences(network) -> None:
    image = network.images[:1]
    target = 1
    gradient = attribute(network.model, image, target, "gradient").values
    generator = torch.Generator().manual_seed(2)
    for _ in range(2):
        direction = torch.randn(image.shape, generator=generator, dtype=torch.float64)
        wanted = slope(network.model, image, direction, target)
        found = float((gradient * direction).sum())
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-7)


def test_detached_shortcut_is_no_obstacle() -> None:
    """MONAI's shortcut A detaches its path: autograd through the module is wrong, the graph is right."""
    from monai.networks.nets import resnet18

    torch.manual_seed(0)
    model = resnet18(spatial_dims=2, n_input_channels=1, num_classes=2, shortcut_type="A").double().eval()
    image = torch.randn(1, 1, 32, 32, dtype=torch.float64)
    direction = torch.randn_like(image)

    def score(x: torch.Tensor) -> float:
        with torch.no_grad():
            return float(model(x)[0, 1])

    wanted = (score(image + STEP * direction) - score(image - STEP * direction)) / (2 * STEP)
    ours = float((attribute(model, image, 1, "gradient").values * direction).sum())
    point = image.clone().requires_grad_()
    eager = float((torch.autograd.grad(model(point)[0, 1], point)[0] * direction).sum())
    assert ours == pytest.approx(wanted, rel=1e-4)
    assert eager != pytest.approx(wanted, rel=1e-1)


def test_integrated_gradients_are_complete() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(64, 3)).double()
    images = torch.randn(2, 2, 6, 6, dtype=torch.float64)
    for baseline in (0.0, "image_mean", torch.randn(2, 6, 6, dtype=torch.float64)):
        result = attribute(model, images, [0, 2], "integrated_gradients", baseline=baseline, steps=64)
        change = result.values.flatten(1).sum(1)
        assert torch.tensor(result.details["gap"]).abs().max() < 1e-3 * change.abs().max()
    rough = attribute(model, images, 0, "integrated_gradients", steps=1)
    assert max(map(abs, rough.details["gap"])) > max(map(abs, result.details["gap"]))


def test_smooth_grad_of_a_linear_model_is_its_weight() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(18, 2))
    result = attribute(model, torch.randn(2, 2, 3, 3), 1, "smooth_grad", samples=3)
    wanted = model[1].weight[1].detach().reshape(1, 2, 3, 3).expand(2, -1, -1, -1)
    torch.testing.assert_close(result.values, wanted)  # the mean, not the mean over √n


def test_smooth_grad_is_the_mean_over_noise() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
    image = torch.randn(1, 1, 6, 6)
    result = attribute(model, image, 1, "smooth_grad", samples=4, noise=0.3, seed=9)
    generator = torch.Generator().manual_seed(9)
    spread = 0.3 * (image.max() - image.min())
    noise = [torch.randn(image.shape, generator=generator, dtype=torch.float64).float() for _ in range(4)]
    noisy = [image + spread * drawn for drawn in noise]
    each = [attribute(model, x, 1, "gradient").values for x in noisy]
    torch.testing.assert_close(result.values, torch.stack(each).mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", [-1, 1.5, True, "one", 2**63])
def test_a_seed_that_is_none_is_refused(seed: object) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with pytest.raises(MethodError, match="is not a seed"):
        attribute(model, torch.randn(1, 1, 2, 2), 0, "smooth_grad", samples=1, seed=seed)


def test_guided_backprop_by_hand() -> None:
    torch.manual_seed(0)
    a, b = nn.Linear(4, 6).double(), nn.Linear(6, 2).double()
    x = torch.randn(1, 1, 2, 2, dtype=torch.float64)
    for rectifier, low, high in (
        (nn.ReLU(), 0, torch.inf),
        (nn.ReLU6(), 0, 6),
        (nn.Hardtanh(0.1, 0.5), 0.1, 0.5),
    ):
        model = nn.Sequential(nn.Flatten(), a, rectifier, b)
        z = a(x.flatten(1))
        arrived = b.weight[1].clamp(min=0) * ((z > max(low, 0)) & (z < high))
        wanted = (arrived @ a.weight).reshape(x.shape).detach()
        torch.testing.assert_close(attribute(model, x, 1, "guided_backprop").values, wanted)
    model = nn.Sequential(nn.Flatten(), a, nn.SiLU(), b)
    z = a(x.flatten(1)).detach().requires_grad_()
    (own,) = torch.autograd.grad(nn.functional.silu(z).sum(), z)
    arrived = b.weight[1].clamp(min=0) * own * (z > 0)
    wanted = (arrived @ a.weight).reshape(x.shape).detach()
    torch.testing.assert_close(attribute(model, x, 1, "guided_backprop").values, wanted)


def test_guided_backprop_refuses_a_model_without_rectifiers() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    with pytest.raises(MethodError, match="no rectifier"):
        attribute(model, torch.randn(1, 1, 2, 2), 0, "guided_backprop")


def test_swish_is_a_rectifier_however_written() -> None:
    class Written(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.classifier = nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layer(x.flatten(1))
            return self.classifier(torch.sigmoid(y) * y)

    torch.manual_seed(0)
    model, x = Written(), torch.randn(1, 1, 2, 2)
    plain = nn.Sequential(nn.Flatten(), model.layer, nn.SiLU(), model.classifier)
    for method in ("guided_backprop", "lrp"):
        mine, wanted = (attribute(m, x, 1, method).values for m in (model, plain))
        torch.testing.assert_close(mine, wanted)


@pytest.mark.parametrize("colour", ["sum", "max_abs", "sum_abs"])
def test_colour_rules(colour: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    x = torch.randn(1, 3, 6, 6)
    signed = attribute(model, x, 1, "gradient").values
    wanted = {"sum": signed.sum(1), "max_abs": signed.abs().amax(1), "sum_abs": signed.abs().sum(1)}[colour]
    torch.testing.assert_close(attribute(model, x, 1, "gradient", colour=colour).values[:, 0], wanted)


@pytest.mark.parametrize("name", ["relu", "silu"])
def test_guided_backprop_of_two_layers_equals_its_definition(name: str) -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(6, 7).double(), nn.Linear(7, 3).double()
    activation = getattr(nn.functional, name)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = first, second

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(activation(self.first(x.flatten(1))))

    image = torch.randn(2, 1, 2, 3, dtype=torch.float64)
    found = attribute(Net(), image, 1, "guided_backprop").values
    inside = first(image.flatten(1)).detach().requires_grad_(requires_grad=True)
    (slope,) = torch.autograd.grad(activation(inside).sum(), inside)
    passed = second.weight[1].clamp(min=0) * slope * (inside > 0)
    torch.testing.assert_close(found, (passed @ first.weight).reshape(image.shape), rtol=0, atol=1e-12)

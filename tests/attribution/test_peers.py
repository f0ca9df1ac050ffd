"""Against captum and zennit, on the networks that they handle."""

from __future__ import annotations

import types

import pytest
import torch
from torch import nn

from pipeline.attribution import attribute

CLOSE = {"rtol": 1e-5, "atol": 1e-7}


def plain(dims: int) -> tuple[nn.Module, torch.Tensor]:
    """Stack of modules, each used once: what hooks can follow."""
    torch.manual_seed(0)
    conv, pool = (nn.Conv2d, nn.Conv3d)[dims - 2], (nn.MaxPool2d, nn.MaxPool3d)[dims - 2]
    average = (nn.AvgPool2d, nn.AvgPool3d)[dims - 2]
    layers = [
        conv(2, 4, 3, padding=1),
        nn.ReLU(),
        conv(4, 6, 3),
        nn.ReLU(),
        pool(2),
        conv(6, 6, 3, padding=1),
    ]
    head = [nn.ReLU(), average(2), nn.Flatten(), nn.Linear(6 * 2**dims, 5), nn.ReLU(), nn.Linear(5, 3)]
    model = nn.Sequential(*layers, *head).double()
    return model, torch.randn(2, 2, *(10,) * dims, dtype=torch.float64)


@pytest.fixture(scope="module", params=[2, 3], ids=["2d", "3d"])
def stack(request: pytest.FixtureRequest) -> tuple[nn.Module, torch.Tensor]:
    return plain(request.param)


@pytest.mark.filterwarnings("ignore:Setting backward hooks:UserWarning")
def test_captum_gradients(stack) -> None:
    captum = pytest.importorskip("captum.attr", reason="captum is not installed")
    model, images = stack
    target, point = [0, 2], images.clone().requires_grad_()
    pairs = {
        "gradient": captum.Saliency(model).attribute(point, target=target, abs=False),
        "input_x_gradient": captum.InputXGradient(model).attribute(point, target=target),
        "guided_backprop": captum.GuidedBackprop(model).attribute(point, target=target),
    }
    for method, wanted in pairs.items():
        torch.testing.assert_close(attribute(model, images, target, method).values, wanted.detach(), **CLOSE)
    steps = captum.IntegratedGradients(model).attribute(
        point, target=target, n_steps=20, method="riemann_middle"
    )
    mine = attribute(model, images, target, "integrated_gradients", steps=20)
    torch.testing.assert_close(mine.values, steps.detach(), **CLOSE)


def test_captum_grad_cam(stack) -> None:
    captum = pytest.importorskip("captum.attr", reason="captum is not installed")
    model, images = stack
    layer = model[6]
    coarse = captum.LayerGradCam(model, layer).attribute(images, target=1, relu_attributions=False)
    mode = "bilinear" if images.ndim == 4 else "trilinear"
    wanted = nn.functional.interpolate(coarse, images.shape[2:], mode=mode, align_corners=False).detach()
    found = attribute(model, images, 1, "grad_cam").values
    torch.testing.assert_close(found, wanted, **CLOSE)


def test_captum_occlusion(stack) -> None:
    captum = pytest.importorskip("captum.attr", reason="captum is not installed")
    model, images = stack
    dims = images.ndim - 2
    channels = images.shape[1]
    wanted = captum.Occlusion(model).attribute(
        images, (channels, *(4,) * dims), strides=(channels, *(3,) * dims), baselines=0.5, target=1
    )
    mine = attribute(model, images, 1, "occlusion", patch=4, stride=3, fill=0.5)
    torch.testing.assert_close(mine.values, wanted[:, :1].double(), rtol=1e-5, atol=1e-5)  # float32 there


def test_captum_feature_ablation(stack) -> None:
    captum = pytest.importorskip("captum.attr", reason="captum is not installed")
    model, images = stack
    regions = torch.randint(0, 4, images.shape[2:], generator=torch.Generator().manual_seed(3))
    mask = regions.expand(1, *images.shape[1:])
    wanted = captum.FeatureAblation(model).attribute(images, target=2, feature_mask=mask)
    mine = attribute(model, images, 2, "region_occlusion", regions=regions)
    torch.testing.assert_close(mine.values, torch.where(regions > 0, wanted[:, :1], 0).double(), **CLOSE)
    assert mine.region_scores is not None
    for label in (1, 2, 3):
        assert torch.allclose(mine.region_scores[:, label - 1], wanted[:, 0][:, regions == label][:, 0])


COMPOSITES = {
    "epsilon_plus_flat": lambda c: c.EpsilonPlusFlat(epsilon=1e-6),
    "epsilon_gamma_box": lambda c: c.EpsilonGammaBox(low=-4.0, high=4.0, epsilon=1e-6, gamma=0.25),
}


@pytest.mark.parametrize("composite", COMPOSITES)
def test_zennit_composites(stack, zennit: types.ModuleType, composite: str) -> None:
    from zennit.attribution import Gradient
    from zennit.composites import __dict__ as composites

    model, images = stack
    composer = COMPOSITES[composite](types.SimpleNamespace(**composites))
    with torch.no_grad():
        seed = torch.zeros(2, 3, dtype=torch.float64)
        seed[:, 1] = model(images)[:, 1]
    with Gradient(model=model, composite=composer) as attributor:
        _, wanted = attributor(images.clone().requires_grad_(), seed)
    options = {"low": -4.0, "high": 4.0} if composite == "epsilon_gamma_box" else {}
    mine = attribute(model, images, 1, "lrp", composite=composite, **options)
    scale = float(wanted.abs().max())
    assert float((mine.values - wanted).abs().max()) <= 1e-5 * scale


@pytest.mark.parametrize("rule", ["epsilon", "gamma", "z_plus", "alpha2_beta1", "w_square", "flat"])
def test_zennit_rules(zennit: types.ModuleType, rule: str) -> None:
    from zennit import rules

    from pipeline.attribution.propagation import rules as ours
    from pipeline.attribution.propagation.linear_map import LinearMap

    torch.manual_seed(1)
    layer = nn.Conv2d(3, 4, 3, padding=1).double()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64).clamp(min=0 if rule != "epsilon" else -9)
    R = torch.randn(2, 4, 5, 5, dtype=torch.float64)
    pairs = {
        "epsilon": (rules.Epsilon(epsilon=1e-6), ours.Epsilon()),
        "gamma": (rules.Gamma(gamma=0.25, stabilizer=1e-6), ours.Gamma(0.25)),
        "z_plus": (rules.ZPlus(stabilizer=1e-6), ours.ZPlus()),
        "alpha2_beta1": (rules.AlphaBeta(alpha=2, beta=1, stabilizer=1e-6), ours.AlphaBeta(2.0, 1.0)),
        "w_square": (rules.WSquare(stabilizer=1e-6), ours.WSquare()),
        "flat": (rules.Flat(stabilizer=1e-6), ours.Flat()),
    }
    theirs, mine = pairs[rule]
    if rule == "gamma":
        with torch.no_grad():
            R = torch.where(layer(x) > 0, R, 0)  # zennit's plain γ is defined for positive results
    handles = theirs.register(layer)
    point = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(layer(point), point, R)
    handles.remove()
    settings = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    found = mine(LinearMap(layer.weight.detach(), layer.bias.detach(), settings), x, R, 1e-6).relevance
    assert float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())

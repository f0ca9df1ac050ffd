"""Laws of relevance propagation that hold whatever the network."""

from __future__ import annotations

from math import prod

import pytest
import torch
from torch import nn

from pipeline.attribution import attribute
from pipeline.attribution.propagation.composites import COMPOSITES
from pipeline.models.graph import capture

TOLERANCE = 1e-4


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-300))


def test_epsilon_to_zero_is_input_times_gradient(linear_network) -> None:
    """The law that finds every structural mistake."""
    model, images = linear_network.model, linear_network.images
    lrp = attribute(model, images, [0, 1], "lrp", composite="epsilon", epsilon=1e-12)
    wanted = attribute(model, images, [0, 1], "input_x_gradient")
    assert relative(lrp.values, wanted.values) < TOLERANCE


@pytest.mark.parametrize("composite", COMPOSITES)
def test_relevance_is_accounted_for(network, composite: str) -> None:
    result = attribute(network.model, network.images, [1, 0], "lrp", composite=composite)
    assert result.conservation_error is not None
    assert result.bias_share is not None
    assert float(result.conservation_error.max()) < TOLERANCE
    assert torch.isfinite(result.values).all()


@pytest.mark.parametrize("method", ["sglrp", "clrp"])
def test_contrastive_relevance_closes_to_zero(network, method: str) -> None:
    result = attribute(network.model, network.images, [1, 0], method)
    assert result.conservation_error is not None
    assert float(result.conservation_error.max()) < TOLERANCE


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("method", ["sglrp", "clrp"])
@pytest.mark.parametrize("shift", [-20.0, 20.0])
def test_contrast_keeps_its_direction_whatever_the_sign_of_the_logit(
    method: str, shift: float, *, single: bool
) -> None:
    """The left half of the image speaks for class 1, the right half for class 0, if there are two."""
    weights = torch.zeros(2, 1, 4, 4)
    weights[1, :, :, :2], weights[0, :, :, 2:] = 1.0, 1.0
    linear = nn.Linear(16, 1 if single else 2)
    with torch.no_grad():
        linear.weight.copy_(weights.reshape(2, 16)[1 if single else 0 :])
        linear.bias.copy_(torch.tensor([shift] if single else [-shift, shift]))
    model, image = nn.Sequential(nn.Flatten(), linear).eval(), torch.ones(1, 1, 4, 4)
    speaks_for_1 = attribute(model, image, 1, method).values[..., :2]
    assert float(speaks_for_1.min()) > 0
    assert float(attribute(model, image, 0, method).values[..., :2].max()) < 0


def test_gamma_0_is_epsilon_and_alpha_1_is_z_plus(network) -> None:
    def values(**rules: object) -> torch.Tensor:
        return attribute(network.model, network.images, 1, "lrp", epsilon=1e-9, **rules).values

    epsilon = values(composite="epsilon")
    gamma = values(composite="epsilon", gamma=0.0, rules={"*": "gamma"})
    assert relative(gamma, epsilon) < TOLERANCE
    z_plus = values(rules={"*": "z_plus"})
    assert relative(values(rules={"*": "alpha1_beta0"}), z_plus) < 1e-12
    assert relative(z_plus, epsilon) > TOLERANCE


class Absolute:
    """A model whose weights are replaced by absolute values and shifts by zero, for a moment."""

    def __init__(self, model: nn.Module, *, weights: bool) -> None:
        self.model, self.weights = model, weights
        self.kept = {k: v.clone() for k, v in model.state_dict().items()}

    def __enter__(self) -> None:
        for name, value in self.model.state_dict().items():
            if name.endswith(("bias", "running_mean")):
                value.zero_()
            elif self.weights and value.is_floating_point():
                value.abs_()

    def __exit__(self, *_: object) -> None:
        for name, value in self.model.state_dict().items():
            value.copy_(self.kept[name])


def test_all_positive_network_has_one_relevance(linear_network) -> None:
    """With weights and inputs positive and shifts zero, z⁺ = ε = input × gradient."""
    if linear_network.name in {"functional", "scripted", "traced"}:
        pytest.skip("it subtracts a constant: not all positive")
    model, images = linear_network.model, linear_network.images.abs()
    with Absolute(model, weights=True):
        wanted = attribute(model, images, 0, "input_x_gradient").values
        sign = -1 if linear_network.name == "vgg" else 1  # class 0 of a single logit is its negative
        assert float(sign * wanted.min()) >= 0
        epsilon = attribute(model, images, 0, "lrp", composite="epsilon", epsilon=1e-12).values
        z_plus = attribute(model, images, 0, "lrp", epsilon=1e-12, rules={"*": "z_plus"}).values
    assert relative(epsilon, wanted) < TOLERANCE
    assert relative(z_plus, wanted) < TOLERANCE


def test_without_shifts_the_image_gets_the_whole_score(network) -> None:
    if network.name in {"functional", "scripted", "traced"}:
        pytest.skip("it subtracts a constant")
    images = network.images
    if network.name.startswith("efficientnet"):
        images = images * 1e6  # without shifts its activations die away below the stabiliser
    with Absolute(network.model, weights=False):
        result = attribute(network.model, images, 1, "lrp", composite="epsilon", epsilon=1e-12)
        assert result.bias_share is not None
        total = result.values.flatten(1).sum(1)
    assert relative(total, result.scores[:, 1]) < TOLERANCE
    assert float(result.bias_share.abs().max()) < 1e-12


def test_batch_equals_one_by_one(network) -> None:
    methods = ["lrp", "sglrp", "guided_backprop", "gradient"]
    if prod(capture(network.model, network.images).landmarks.grid) > 1:
        methods.append("grad_cam")
    for method in methods:
        together = attribute(network.model, network.images, [0, 1], method).values
        for i in range(2):
            alone = attribute(network.model, network.images[i : i + 1], i, method).values
            assert relative(together[i : i + 1], alone) < 1e-6


def test_both_classes_of_one_logit_mirror_each_other() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 1), nn.Sigmoid())
    images = torch.randn(2, 1, 8, 8)
    for method in ("lrp", "sglrp", "clrp", "integrated_gradients"):
        for_it, against = (attribute(model, images, t, method).values for t in (1, 0))
        torch.testing.assert_close(for_it, -against)
        assert float(for_it.abs().max()) > 0


def test_own_rules_by_depth_kind_and_path() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(32, 2)
    ).double()
    images = torch.randn(1, 1, 8, 8, dtype=torch.float64)

    def values(rules: object, **options: object) -> torch.Tensor:
        return attribute(model, images, 0, "lrp", rules=rules, **options).values

    composite = values(None)
    same = values({"*": "epsilon", "convolution": "z_plus", 0: "flat"}, composite="epsilon_gamma_box")
    assert torch.equal(composite, same)
    assert torch.equal(values({2: "z_plus"}), values({-1: "z_plus"}))
    assert torch.equal(values({2: "z_plus"}), values({"4": "z_plus"}))
    assert not torch.equal(composite, values({-1: "z_plus"}))
    for wrong in ({3: "flat"}, {"layer9": "flat"}, {0: "unknown"}, {0: 3}, "flat"):
        with pytest.raises(Exception, match="rule"):
            values(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epsilon": -1},
        {"epsilon": "small"},
        {"gamma": -0.1},
        {"composite": "epsilon_plus"},
        {"low": "dark"},
        {"high": [1.0, 2.0, 3.0]},
        {"composite": "epsilon_gamma_box", "low": 2.0, "high": 1.0},
        {"composite": "epsilon_gamma_box", "low": [0.0, 1.0, 2.0, 3.0]},
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, object]) -> None:
    from pipeline.errors import MethodError

    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 2))
    with pytest.raises(MethodError):
        attribute(model, torch.randn(1, 1, 8, 8), 0, "lrp", **wrong)


def test_operation_without_a_rule_is_named() -> None:
    from pipeline.errors import UnsupportedOperationError

    class Squares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layer(x)
            return (y * y).mean((2, 3))

    with pytest.raises(UnsupportedOperationError, match=r"multiply at after layer, test_lrp_laws.py:\d+"):
        attribute(Squares(), torch.randn(1, 1, 8, 8), 0, "lrp")


def test_seed_of_sglrp_survives_a_wide_gap() -> None:
    """float32 p(1 − p) is 0 from a logit gap of 17; the relevance must not be."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[60.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0]]))
    result = attribute(model, torch.ones(1, 1, 2, 2), 0, "sglrp", composite="epsilon")
    rivals = torch.softmax(torch.tensor([1.0, 2.0]), 0)
    wanted = torch.tensor([1.0, -rivals[0], -rivals[1], 0]).reshape(1, 1, 2, 2)
    torch.testing.assert_close(result.values, wanted, rtol=1e-4, atol=1e-5)

"""The cascade redraws what it says, from the output down, and leaves the audited model as it was."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.comparison import random_twin
from pipeline.comparison.twins import calibration_passes, redrawn
from pipeline.errors import ModelError
from pipeline.trust.randomisation import Stage, cascade, layers_in_order, left_over_draws, remaining, steps_of


class Backwards(nn.Module):
    """Defined in another order than it computes in; two paths meet; one layer is used twice."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 2)
        self.last = nn.Conv2d(6, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.first_norm = nn.BatchNorm2d(6)
        self.first = nn.Conv2d(3, 6, 3, padding=1, bias=False)

    def forward(self, x):
        x = self.first_norm(self.first(x)).relu()
        x = self.norm(self.last(x)).relu() + x
        x = self.norm(self.last(x)).relu()
        return self.head(x.mean((2, 3)))


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = Backwards()
    with torch.no_grad():
        for norm in (made.norm, made.first_norm):
            norm.weight.uniform_(0.5, 2)
            norm.running_mean.normal_()
    return made.eval()


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(3, 3, 12, 12, generator=generator), torch.rand(2, 3, 12, 12, generator=generator)]


@pytest.mark.parametrize("scripted", [False, True])
def test_layers_come_in_the_order_of_the_computation(model, images, scripted):
    network = torch.jit.trace(model, images[0]) if scripted else model
    layers = layers_in_order(network, images[0])
    assert [layer[0] for layer in layers] == ["first.weight", "last.weight", "head.weight"]
    assert {"first_norm.weight", "first_norm.running_var"} < set(layers[0])
    assert {"last.bias", "norm.bias", "norm.running_mean"} < set(layers[1])
    assert set(layers[2]) == {"head.weight", "head.bias"}


def test_each_step_redraws_the_layers_above_and_leaves_those_below(model, images):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawn = redrawn(model, seed=7).state_dict()
    groups = layers_in_order(model, images[0])[::-1]
    seen = []
    for stage, twin in cascade(model, images, seed=7):
        seen.append((stage.layers, stage.of, stage.lowest))
        state = twin.state_dict()
        changed = {name for group in groups[: stage.layers] for name in group}
        for name, value in state.items():
            if name not in changed and "num_batches" not in name:
                assert torch.equal(value, before[name]), name
            elif name in changed and "running" not in name:
                assert torch.equal(value, drawn[name]), name
        assert not twin.training
    assert seen == [(1, 3, "head"), (2, 3, "last"), (3, 3, "first")]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_last_step_is_a_random_twin(model, images):
    twin = random_twin(model, images, seed=7)
    *_, (_, last) = cascade(model, images, seed=7)
    for name, value in last.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name


def test_batch_norm_below_keeps_what_it_learnt_and_above_is_calibrated(model, images):
    (_, _), (_, twin) = [next(steps) for steps in [cascade(model, images, seed=7)] for _ in range(2)]
    assert torch.equal(twin.first_norm.running_mean, model.first_norm.running_mean)
    with torch.no_grad():
        below = [model.first_norm(model.first(batch)).relu() for batch in images]
        inner = [twin.last(x) for x in below]
    # the layer is used twice, so its statistics are averages over both uses: the first alone is not enough
    assert not torch.equal(twin.norm.running_mean, model.norm.running_mean)
    assert twin.norm.running_mean.abs().max() < 10 * torch.cat(inner).abs().max()


def test_deep_networks_take_a_few_even_steps(images):
    layers = [nn.Conv2d(3, 3, 3, padding=1) for _ in range(20)]
    deep = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).eval()
    counts = [stage.layers for stage, _ in cascade(deep, images, stages=5)]
    assert counts == [1, 6, 11, 16, 21]
    assert steps_of(deep, images[0]) == 5


def test_torchscript_is_randomised_as_well(model, images):
    scripted = torch.jit.trace(model, images[0])
    x = images[0]
    before = scripted(x).clone()
    found = [twin(x).detach().clone() for _, twin in cascade(scripted, images, stages=2)]
    assert len(found) == 2
    assert not torch.allclose(found[0], before)
    assert not torch.allclose(found[1], found[0])
    assert torch.equal(scripted(x), before)


def test_the_passes_of_calibration_are_counted(model, images):
    """Five images once; TorchScript, whose momentum is fixed, is shown the two batches twenty times."""
    for network, each in ((model, 5), (torch.jit.trace(model, images[0]), 100)):
        assert calibration_passes(network, images) == each
        passes = [stage.passes for stage, _ in cascade(network, images)]
        assert passes == [0, each, each]  # no BatchNorm in the output layer
    plain = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    plain(images[0])
    assert calibration_passes(plain, images) == 0
    assert [stage.passes for stage, _ in cascade(plain.eval(), images)] == [0, 0]


def test_what_cannot_be_randomised_is_refused(model, images):
    with pytest.raises(ModelError, match="without images"):
        list(cascade(model, []))
    frozen = torch.jit.freeze(torch.jit.trace(model, images[0]))
    with pytest.raises(ModelError, match="no weights"):
        list(cascade(frozen, images))


def test_what_is_left_is_measured_between_random_models_and_the_same_map():
    left = remaining([1.0, 0.4, 0.7, 0.1, 0.97], [0.4, 0.4, 0.4, 0.4, 0.96])
    assert left[:4] == pytest.approx([1, 0, 0.5, -0.5])
    assert np.isnan(left[4])  # maps of random models are practically equal: the method shows no model


def test_what_is_left_over_draws_is_the_mean_and_its_jackknife():
    rng = np.random.default_rng(0)
    alike, between = rng.uniform(0, 0.9, (3, 4, 5)), rng.uniform(0, 0.5, (3, 3, 5))
    left, pseudo = left_over_draws(alike, between)

    def slow(draws, image):
        pairs = [between[a, b, image] for a in draws for b in draws if a < b]
        base = sum(pairs) / len(pairs)
        steps = [(alike[d, s, image] - base) / (1 - base) for d in draws for s in range(4)]
        return sum(steps) / len(steps)

    for image in range(5):
        whole = slow((0, 1, 2), image)
        assert left[image] == pytest.approx(whole, abs=1e-12)
        for draw, rest in ((0, (1, 2)), (1, (0, 2)), (2, (0, 1))):
            assert pseudo[draw, image] == pytest.approx(3 * whole - 2 * slow(rest, image), abs=1e-12)


def test_two_draws_leave_no_pair_to_jackknife_and_alike_random_models_leave_nothing():
    left, pseudo = left_over_draws(np.full((2, 1, 3), 0.5), np.full((2, 2, 3), 0.2))
    assert left == pytest.approx([0.375] * 3)
    assert np.isnan(pseudo).all()
    left, pseudo = left_over_draws(np.full((3, 1, 2), 0.99), np.full((3, 3, 2), 0.99))
    assert np.isnan(left).all()
    assert np.isnan(pseudo).all()


def test_the_output_layer_alone_does_not_count():
    assert [Stage(n, 3, "").counts for n in (1, 2, 3)] == [False, True, True]
    assert Stage(1, 1, "").counts


def test_where_all_features_say_the_same_a_new_output_layer_only_turns_the_map_over(images):
    """Why the first step does not count: two classes leave one direction to read out."""
    from pipeline.trust.maps import Price, maps_of
    from pipeline.trust.similarity import rank_correlation

    torch.manual_seed(3)
    network = nn.Sequential(
        nn.Conv2d(3, 1, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2)
    )
    plain = maps_of(network.eval(), images[0][:1], 1, "gradient", {}, Price())[0]
    _, twin = next(cascade(network, images, seed=1))
    redrawn_output = maps_of(twin, images[0][:1], 1, "gradient", {}, Price())[0]
    assert abs(rank_correlation(plain, redrawn_output)) == pytest.approx(1)

"""Random twins: fair opponents, and never at the cost of the original."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.comparison import twins
from pipeline.errors import ModelError

torch = pytest.importorskip("torch")
nn = torch.nn


def network(dimensions=2):
    torch.manual_seed(0)
    conv, norm = {2: (nn.Conv2d, nn.BatchNorm2d), 3: (nn.Conv3d, nn.BatchNorm3d)}[dimensions]
    layers = []
    for before, after in [(1, 8), (8, 8), (8, 8), (8, 8), (8, 8), (8, 8)]:
        layers += [conv(before, after, 3, padding=1), norm(after), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.5), nn.LazyLinear(2))
    model(images(dimensions)[0])
    # statistics of a trained model, whose activations have nothing to do with a random one's
    for module in model.modules():
        if isinstance(module, norm):
            module.running_mean.fill_(0.5)
            module.running_var.fill_(400.0)
    return model.eval()


def images(dimensions=2, batches=3):
    generator = torch.Generator().manual_seed(1)
    return [torch.rand((6, 1, *(12,) * dimensions), generator=generator) for _ in range(batches)]


def logits_of(model, dimensions=2):
    with torch.no_grad():
        return torch.cat([model(batch) for batch in images(dimensions)]).numpy()


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_recalibrated_twin_is_alive_and_an_uncalibrated_one_is_not(dimensions):
    model = network(dimensions)
    twin = twins.random_twin(model, images(dimensions), seed=1)
    assert twins.check_twin(logits_of(twin, dimensions)).degenerate == ""
    dead = twins.random_twin(model, images(dimensions), seed=1)
    for module in dead.modules():
        if "BatchNorm" in type(module).__name__:
            module.running_mean.fill_(0.5)
            module.running_var.fill_(400.0)
    assert twins.check_twin(logits_of(dead, dimensions)).degenerate


def test_the_original_is_bit_identical_afterwards():
    model = network()
    model.train()
    before, mode = state_of(model), [m.training for m in model.modules()]
    momenta = [m.momentum for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    twin = twins.random_twin(model, images(), seed=2)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [m.training for m in model.modules()] == mode
    assert [m.momentum for m in twin.modules() if isinstance(m, nn.BatchNorm2d)] == momenta
    assert not any(m.training for m in twin.modules())
    shared = {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in twin.parameters()}
    assert not shared


def test_statistics_are_those_of_the_images():
    twin = twins.random_twin(network(), images(), seed=3)
    first = twin[0](torch.cat(images()))
    assert torch.allclose(twin[1].running_mean, first.mean(dim=(0, 2, 3)), atol=1e-5)
    assert torch.allclose(twin[1].running_var, first.var(dim=(0, 2, 3)), rtol=0.05)


def test_seeds_give_different_and_repeatable_twins():
    model = network()
    one, two, three = twins.random_twins(model, images(), count=3, seed=5)
    again = twins.random_twin(model, images(), seed=6)
    assert np.array_equal(logits_of(two), logits_of(again))
    assert not np.allclose(logits_of(one), logits_of(two))
    assert not np.allclose(logits_of(two), logits_of(three))


def test_nothing_of_the_training_is_left():
    model = network()
    model.add_module("act", nn.PReLU(2))
    twin = twins.random_twin(model, images(), seed=7)
    trained, drawn = dict(model.named_parameters()), dict(twin.named_parameters())
    for name, value in drawn.items():
        if value.ndim > 1:
            assert (
                abs(
                    float(
                        torch.corrcoef(torch.stack([value.detach().ravel(), trained[name].detach().ravel()]))[
                            0, 1
                        ]
                    )
                )
                < 0.35
            ), name
    assert torch.equal(drawn["act.weight"], torch.full((2,), 0.25))


def test_torchscript_has_twins_too():
    model = torch.jit.script(network())
    before = state_of(model)
    twin = twins.random_twin(model, images(), seed=8)
    assert twins.check_twin(logits_of(twin)).degenerate == ""
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not np.allclose(logits_of(twin), logits_of(model))


def test_a_model_without_batch_norm_needs_no_images():
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
    twin = twins.random_twin(model, [], seed=9)
    assert not np.allclose(logits_of(twin), logits_of(model))
    with pytest.raises(ModelError, match="without images"):
        twins.random_twin(network(), [], seed=9)


def test_a_batch_of_one_that_batch_norm_refuses_is_said():
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 4), nn.BatchNorm1d(4))
    with pytest.raises(ModelError, match="two or more images"):
        twins.random_twin(model, [torch.rand(1, 1, 12, 12)], seed=1)


def test_a_model_that_cannot_be_copied_is_said():
    class Locked(nn.Linear):
        def __deepcopy__(self, memo):
            raise TypeError("no")

    with pytest.raises(ModelError, match="cannot be copied"):
        twins.random_twin(Locked(2, 2), [], seed=0)


def test_degenerate_twins_are_named():
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((10, 2))
    good, zero = rng.standard_normal((4, 4)), np.zeros((4, 4))
    assert twins.check_twin(logits, [good] * 20).degenerate == ""
    assert "50% of its maps" in twins.check_twin(logits, [good, zero] * 5).degenerate
    assert "hardly depend" in twins.check_twin(3 + 1e-6 * logits).degenerate
    assert "a thousand times" in twins.check_twin(1e-9 * logits, model_logits=logits).degenerate
    assert "not finite" in twins.check_twin(np.where(logits > 0, np.nan, logits)).degenerate
    with pytest.raises(ModelError):
        twins.check_twin(logits[:1])

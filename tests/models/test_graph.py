"""The captured graph computes what the model computes, for any batch, and leaves the model alone."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional

from pipeline.errors import ModelError
from pipeline.models.graph import Batch, capture
from pipeline.models.graph.folding import fold_batch_norm


class Net(nn.Module):
    """One of everything that hooks miss."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.classifier = nn.Linear(8, 3)
        self.register_buffer("shift", torch.full((1,), 0.5))
        self.plain = torch.full((4, 1, 1), 2.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu_(self.norm(self.conv(x)))
        y = torch.cat([y, functional.relu(self.twice(y) * self.plain)], 1)
        y += self.shift
        y = functional.max_pool2d(y, 2)
        self.seen = y.mean((2, 3))
        return torch.softmax(self.classifier(self.drop(self.seen.view(x.shape[0], -1))), 1)


@pytest.fixture
def model() -> Net:
    torch.manual_seed(0)
    model = Net()
    with torch.no_grad():
        model.norm.running_mean.normal_()
        model.norm.running_var.uniform_(0.5, 2)
    return model.eval()


def logits(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(x).log()


def close_up_to_constant(a: torch.Tensor, b: torch.Tensor) -> None:
    """Logits and log-probabilities differ by a constant per image."""
    torch.testing.assert_close(a - a[:, :1], b - b[:, :1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["eager", "traced", "frozen"])
@pytest.mark.parametrize("images", [1, 2, 5])
def test_computes_what_the_model_computes(form: str, images: int, model: Net) -> None:
    x = torch.randn(images, 2, 8, 8)
    given: nn.Module = model
    if form != "eager":
        given = torch.jit.trace(model, torch.randn(2, 2, 8, 8))
    if form == "frozen":
        given = torch.jit.freeze(given)
    graph = capture(given, x[:1])
    assert graph.final == "softmax"
    close_up_to_constant(graph.logits(x), logits(model, x))
    folded = graph.run(x, fold=True)[graph.output]
    torch.testing.assert_close(folded, graph.logits(x), rtol=1e-5, atol=1e-5)


def test_structure_is_cached_and_weights_are_not(model: Net) -> None:
    x = torch.randn(2, 2, 8, 8)
    first = capture(model, x)
    assert capture(model, torch.randn(7, 2, 8, 8)).structure is first.structure
    assert capture(model, torch.randn(2, 2, 10, 8)).structure is not first.structure
    before = first.logits(x)
    model.conv.weight.data = model.conv.weight.data * 2
    model.plain.mul_(3)
    model.shift.data.add_(1)
    again = capture(model, x)
    assert again.structure is first.structure
    assert not torch.allclose(again.logits(x), before)
    close_up_to_constant(again.logits(x), logits(model, x))


def test_changed_model_is_captured_again(model: Net) -> None:
    x = torch.randn(2, 2, 8, 8)
    capture(model, x)
    model.twice = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Tanh())
    close_up_to_constant(capture(model, x).logits(x), logits(model, x))
    model.twice[0].stride = (2, 2)
    model.conv.stride = (2, 2)
    with pytest.raises(ModelError, match="cannot be captured"):
        capture(model, x)


def test_model_is_not_kept_alive() -> None:
    model = Net()
    capture(model, torch.randn(1, 2, 8, 8))
    ghost = weakref.ref(model)
    del model
    gc.collect()
    assert ghost() is None


def test_nothing_of_the_tracing_stays_on_the_model(model: Net) -> None:
    model(torch.randn(1, 2, 8, 8))
    seen, slots = model.seen, set(vars(model))
    model.train()
    model.conv.eval()
    capture(model, torch.randn(1, 2, 8, 8))
    assert model.seen is seen
    assert set(vars(model)) == slots
    assert model.training
    assert not model.conv.training


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_traced_in_training_mode_counts_no_batches(model: Net) -> None:
    traced = torch.jit.trace(model.train(), torch.randn(2, 2, 8, 8), check_trace=False)
    before = {k: v.clone() for k, v in traced.state_dict().items()}
    x = torch.randn(2, 2, 8, 8)
    found = capture(traced, x).logits(x)
    assert all(torch.equal(v, before[k]) for k, v in traced.state_dict().items())
    model.load_state_dict(before)
    close_up_to_constant(found, logits(model.eval(), x))


def test_operations_are_explicit(model: Net) -> None:
    graph = capture(model, torch.randn(1, 2, 8, 8))
    assert [op.kind for op in graph.operations] == [
        *("convolution", "batch_norm", "relu", "convolution", "multiply", "relu", "cat", "add"),
        *("max_pool", "mean", "linear"),
    ]
    pool = graph.operations[8]
    assert pool.shape == (Batch(1), 8, 4, 4)
    assert pool.shape_for(3) == (3, 8, 4, 4)
    assert pool.outputs == 2
    first = graph.operations[0]
    assert graph.structure.parameters[first.source("weight") or ""] == "conv.weight"
    assert first.place.startswith("conv, test_graph.py:")
    linear = graph.operations[-1]
    assert graph.structure.parameters[linear.source("weight") or ""] == "classifier.weight"
    assert [op.name for op in graph.readers[graph.operations[2].name]] == [
        graph.operations[3].name,
        graph.operations[6].name,
    ]


def test_runs_from_any_value_on(model: Net) -> None:
    x = torch.randn(2, 2, 8, 8)
    graph = capture(model, x)
    mark = graph.landmarks
    assert (mark.grid, mark.pooling, mark.classifier) == ((4, 4), "mean", graph.operations[-1].name)
    assert mark.activation is not None
    kept = graph.run(x, keep=[mark.activation], stop=True)
    assert list(kept) == [mark.activation]
    torch.testing.assert_close(graph.run(kept)[graph.output], graph.logits(x))


def test_batch_norm_is_folded_per_call() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.ConvTranspose2d(2, 2, 3, groups=2)
            self.a, self.b, self.alone = nn.BatchNorm2d(2), nn.BatchNorm2d(2), nn.BatchNorm2d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.b(self.conv(self.a(self.conv(x))))
            return self.alone(functional.relu(y)).mean((2, 3))

    torch.manual_seed(0)
    model = Shared().double()
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64)
    model(x * 3 + 1)
    graph = capture(model.eval(), x)
    folded = fold_batch_norm(graph, 2)
    assert [op.kind for op in folded.operations] == ["convolution", "convolution", "relu", "affine", "mean"]
    torch.testing.assert_close(graph.run(x, fold=True)[graph.output], model(x).detach())


@pytest.mark.parametrize(
    ("forward", "message"),
    [
        (lambda x: x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3)), "cannot be captured"),
        (lambda x: (x.mean((2, 3)), x), "returns a"),
        (lambda x: x * 2, "returns a tensor of shape"),
        (lambda x: torch.ones(len(x), 2), "does not depend on the image"),
        (lambda x: x.mean((0, 2, 3)), "returns a tensor of shape"),
        (lambda x: x.mean((2, 3)) * (1 if len(x) == 2 else 2), "differently"),
    ],
)
def test_what_cannot_be_captured_is_refused(forward: object, message: str) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return forward(x)  # type: ignore[operator]

    with pytest.raises(ModelError, match=message):
        capture(Odd(), torch.randn(1, 2, 4, 4))


@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (-1, 1, 1, 1)])
def test_single_logits_of_any_shape(shape: tuple[int, ...]) -> None:
    class Single(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(self.layer(x.flatten(1)).reshape(shape))

    model, x = Single(), torch.randn(3, 2, 2, 2)
    graph = capture(model, x)
    assert (graph.classes, graph.final) == (1, "sigmoid")
    torch.testing.assert_close(graph.logits(x).sigmoid().flatten(), model(x).detach().flatten())


def test_landmarks_of_other_heads() -> None:
    def marks(*layers: nn.Module) -> tuple[tuple[int, ...], bool, bool]:
        found = capture(nn.Sequential(*layers), torch.randn(1, 1, 8, 8)).landmarks
        return found.grid, found.pooling is not None, found.classifier is not None

    conv, pooled = nn.Conv2d(1, 3, 3), (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert marks(conv, nn.ReLU(), *pooled, nn.Linear(3, 2)) == ((6, 6), True, True)
    assert marks(conv, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 2)) == ((6, 6), False, False)
    deep = nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)
    assert marks(conv, *pooled, *deep) == ((6, 6), True, False)
    assert marks(conv, nn.AvgPool2d(6), nn.Conv2d(3, 2, 1), nn.Flatten()) == ((6, 6), True, True)
    assert marks(nn.Conv2d(1, 3, 8), nn.ReLU(), nn.Flatten(), nn.Linear(3, 2)) == ((1, 1), False, False)
    assert marks(nn.Flatten(), nn.Linear(64, 2)) == ((), False, False)

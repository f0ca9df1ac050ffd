"""What holds for every method: the contract of `attribute` and a model left as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pipeline.attribution import METHODS, attribute, check_options
from pipeline.attribution.mace import fit_mace
from pipeline.errors import AuditError
from pipeline.models.graph import captured as captured_module
from pipeline.models.graph.operation import Operation

UNITS_OF_THE_LOGIT = (
    *("occlusion", "region_occlusion", "gradient", "guided_backprop", "lrp", "clrp", "cam", "grad_cam"),
    *("integrated_gradients", "smooth_grad", "input_x_gradient"),
)
NEEDS = {"region_occlusion": {"regions": torch.arange(16).repeat(16, 1) // 5}}
WITHOUT_STATE = [name for name in METHODS if name != "mace"]


class Small(nn.Module):
    """Functional ReLU, a module called twice, +, cat and in-place work: what hooks stumble over."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.classifier = nn.Linear(8, classes)
        self.raises = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.relu(self.norm(self.first(x)))
        y = nn.functional.relu(self.twice(y), inplace=True) + y
        y = torch.cat([y, nn.functional.relu(self.twice(y))], 1)
        if self.raises:
            raise RuntimeError("inside the model")
        return torch.softmax(self.classifier(self.drop(y.mean((2, 3)))), 1)


@pytest.fixture
def model() -> Small:
    torch.manual_seed(0)
    model = Small()
    with torch.no_grad():
        model.norm.running_mean.normal_()
        model.norm.running_var.uniform_(0.5, 2)
    return model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def photograph_of(model: nn.Module) -> dict[str, object]:
    """Everything about a model that must not change."""
    state: dict[str, object] = {f"value {k}": v.clone() for k, v in model.state_dict().items()}
    for name, module in model.named_modules():
        state[f"vars {name}"] = {
            k: copy.copy(v) for k, v in vars(module).items() if k not in {"_parameters", "_buffers"}
        }
    state |= {f"grad {k}": (p.requires_grad, p.grad, id(p), p._version) for k, p in model.named_parameters()}
    state |= {f"buffer {k}": id(b) for k, b in model.named_buffers()}
    return state


def same(a: dict[str, object], b: dict[str, object]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(v, b[k]) if isinstance(v, torch.Tensor) else v == b[k] for k, v in a.items()
    )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_model_is_left_as_it_was(name: str, training: bool, model: Small, images: torch.Tensor) -> None:
    model.train(training)
    model.twice.weight.requires_grad_(requires_grad=False)
    model.first.eval()
    model.norm.register_forward_hook(lambda *_: None)
    before = photograph_of(model)
    options = dict(NEEDS.get(name, {}))
    if name == "mace":
        colours = 9 * torch.randn(20, 3, 1, 1, generator=torch.Generator().manual_seed(2))
        options["state"] = fit_mace(model, colours + torch.zeros(16, 16), epochs=1, concepts=2)
        assert same(before, photograph_of(model)), "after training"
    attribute(model, images, 1, name, **options)
    assert same(before, photograph_of(model))
    with pytest.raises(AuditError, match="out of range"):
        attribute(model, images, 3, name, **options)
    assert same(before, photograph_of(model))


@pytest.mark.parametrize("name", METHODS)
def test_model_is_left_as_it_was_when_it_raises(name: str, model: Small, images: torch.Tensor) -> None:
    model.train()
    model.raises = True
    before = photograph_of(model)
    with pytest.raises((AuditError, RuntimeError), match="inside the model"):
        attribute(model, images, 1, name, **NEEDS.get(name, {}))
    assert same(before, photograph_of(model))


@pytest.mark.parametrize("name", WITHOUT_STATE)
def test_evaluation_mode_whatever_the_flags(name: str, model: Small, images: torch.Tensor) -> None:
    def values() -> torch.Tensor:
        return attribute(model, images, 1, name, **NEEDS.get(name, {})).values

    assert torch.equal(values(), (model.train(), values())[1])


@pytest.mark.parametrize("name", WITHOUT_STATE)
def test_contract(name: str, model: Small, images: torch.Tensor) -> None:
    result = attribute(model, images, [0, 2], name, **NEEDS.get(name, {}))
    assert result.values.shape in {(2, 1, 16, 16), (2, 3, 16, 16)}
    assert result.values.dtype == images.dtype
    assert not result.values.requires_grad
    assert torch.isfinite(result.values).all()
    assert result.method == name
    assert result.target == (0, 2)
    with torch.no_grad():
        logits = model.eval()(images).log()
    differences = result.scores - result.scores[:, :1]
    torch.testing.assert_close(differences, logits - logits[:, :1], rtol=1e-4, atol=1e-5)
    with pytest.raises(AuditError, match="no option 'colur'"):
        attribute(model, images, 0, name, colur=1)


@pytest.mark.parametrize("name", WITHOUT_STATE)
def test_batch_equals_one_by_one(name: str, model: Small, images: torch.Tensor) -> None:
    together = attribute(model, images, [2, 0], name, **NEEDS.get(name, {}))
    for i, target in enumerate([2, 0]):
        alone = attribute(model, images[i : i + 1], target, name, **NEEDS.get(name, {}))
        torch.testing.assert_close(together.values[i : i + 1], alone.values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", UNITS_OF_THE_LOGIT)
def test_nothing_is_rescaled(name: str, model: Small, images: torch.Tensor) -> None:
    """Twice the logit is twice the map: no scaling to a minimum and a maximum."""
    before = attribute(model, images, 1, name, **NEEDS.get(name, {})).values
    with torch.no_grad():
        model.classifier.weight.mul_(2)
        model.classifier.bias.mul_(2)
    after = attribute(model, images, 1, name, **NEEDS.get(name, {})).values
    torch.testing.assert_close(after, 2 * before, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", WITHOUT_STATE)
def test_weights_are_read_afresh(name: str, model: Small, images: torch.Tensor) -> None:
    before = attribute(model, images, 1, name, **NEEDS.get(name, {}))
    model.twice.weight.data.mul_(-1.5)
    model.first.weight.data = model.first.weight.data.flip(0).clone()
    model.norm.running_mean.data.add_(0.3)
    after = attribute(model, images, 1, name, **NEEDS.get(name, {}))
    fresh = attribute(copy.deepcopy(model), images, 1, name, **NEEDS.get(name, {}))
    assert not torch.allclose(before.values, after.values)
    assert torch.equal(after.values, fresh.values)


@pytest.mark.parametrize("name", WITHOUT_STATE)
def test_top_3_is_one_map_a_class(name: str, model: Small, images: torch.Tensor) -> None:
    result = attribute(model, images, "top-3", name, **NEEDS.get(name, {}))
    assert len(result.values) == 6
    for i in range(6):
        order = result.scores[i].argsort(descending=True)
        assert result.target[i] == int(order[i % 3])
    alone = attribute(model, images[1:], result.target[4], name, **NEEDS.get(name, {}))
    torch.testing.assert_close(result.values[4:5], alone.values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", WITHOUT_STATE)
def test_classes_of_an_image_share_capture_and_forward(
    name: str, model: Small, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    convolved: list[int] = []
    captured: list[object] = []
    compute, trace = Operation.compute, captured_module.trace

    def counted(op: Operation, values: dict[str, torch.Tensor], n: int) -> object:
        if op.kind == "convolution":
            convolved.append(n)
        return compute(op, values, n)

    monkeypatch.setattr(Operation, "compute", counted)
    monkeypatch.setattr(captured_module, "trace", lambda *a: (captured.append(a), trace(*a))[1])
    alone = [attribute(model, images, t, name, **NEEDS.get(name, {})) for t in (2, 0)]
    assert len(captured) == 2, "once, with two batch sizes"
    once = sum(convolved) // 2
    for target in ([[2, 0], [2, 0]], "top-3"):
        convolved.clear()
        together = attribute(model, images, target, name, **NEEDS.get(name, {}))
        assert sum(convolved) == once, "more forward work than for one class"
    assert len(captured) == 2
    together = attribute(model, images, [[2, 0], [2, 0]], name, **NEEDS.get(name, {}))
    assert together.target == (2, 0, 2, 0)
    torch.testing.assert_close(together.values[::2], alone[0].values, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(together.values[1::2], alone[1].values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "target",
    [
        3,
        -1,
        [0, 1, 2],
        "likeliest",
        "top-0",
        1.0,
        True,
        None,
        [[0, 1]],
        [0.5, 1],
        [[0], [1, 2]],
        [[0, 3], [1, 2]],
        [[[1]]],
        [],
    ],
)
def test_impossible_targets_are_refused(target: object, model: Small, images: torch.Tensor) -> None:
    with pytest.raises(AuditError):
        attribute(model, images, target, "gradient")


def test_impossible_questions_are_refused(model: Small, images: torch.Tensor) -> None:
    with pytest.raises(AuditError, match="unknown method"):
        attribute(model, images, 0, "gradients")
    with pytest.raises(AuditError, match="output"):
        attribute(model, images, 0, "gradient", output="softmax")
    with pytest.raises(AuditError, match="NaN"):
        attribute(model, images.index_fill(1, torch.tensor(0), torch.nan), 0, "gradient")
    with pytest.raises(AuditError, match="images are"):
        attribute(model, images[0], 0, "gradient")
    with pytest.raises(AuditError, match=r"expected input.* to have 3 channels"):
        attribute(model, images[:, :2], 0, "gradient")
    with pytest.raises(AuditError, match="do not fit"):
        attribute(model, images, 0, "gradient", regions=torch.ones(8, 8, dtype=torch.int32))
    with pytest.raises(AuditError, match="integer"):
        attribute(model, images, 0, "gradient", regions=torch.ones(16, 16))


def test_output_is_an_option_of_every_method() -> None:
    for card in METHODS.values():
        assert check_options(card, {"output": "probability"}) == dict(card.options)
        with pytest.raises(AuditError, match="'odds' is not known"):
            check_options(card, {"output": "odds"})


def test_single_logit_is_two_classes(images: torch.Tensor) -> None:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 14 * 14, 1), nn.Sigmoid()
    )
    for name in ("gradient", "occlusion", "grad_cam"):
        positive = attribute(model, images, 1, name)
        negative = attribute(model, images, 0, name)
        torch.testing.assert_close(positive.values, -negative.values)
        assert torch.equal(positive.scores[:, 0], torch.zeros(2))
        torch.testing.assert_close(positive.scores[:, 1].sigmoid(), model(images)[:, 0].detach())
    probable = attribute(model, images, 0, "gradient", output="probability")
    torch.testing.assert_close(probable.scores.sum(1), torch.ones(2))


def test_region_scores_sum_what_lies_in_a_region(model: Small, images: torch.Tensor) -> None:
    regions = torch.zeros(2, 16, 16, dtype=torch.int32)
    regions[:, :4, :4], regions[0, 10:, 3:] = 7, 2
    result = attribute(model, images, 0, "gradient", regions=regions)
    assert result.region_labels == (2, 7)
    assert result.region_scores is not None
    torch.testing.assert_close(result.region_scores[:, 1], result.values[:, :, :4, :4].sum((1, 2, 3)))
    torch.testing.assert_close(result.region_scores[0, 0], result.values[0, :, 10:, 3:].sum())
    assert torch.isnan(result.region_scores[1, 0])


def test_model_agnostic_methods_need_no_capture(images: torch.Tensor) -> None:
    class Undecided(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3 * 16 * 16, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x.flatten(1)) * (1 if x.sum() > 1e9 else 2)

    torch.manual_seed(0)
    model = Undecided()
    with pytest.raises(AuditError, match="cannot be captured"):
        attribute(model, images, 0, "gradient")
    result = attribute(model, images, 1, "occlusion", patch=1)
    torch.testing.assert_close(
        result.values, 2 * (model.layer.weight[1].reshape(3, 16, 16) * images).sum(1, keepdim=True).detach(),
        rtol=1e-3, atol=1e-4,
    )  # fmt: skip


@pytest.mark.parametrize("name", WITHOUT_STATE)
def test_the_negated_score_has_the_negated_map_where_the_card_says_so(
    name: str, images: torch.Tensor
) -> None:
    torch.manual_seed(5)
    network = nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)),
    )
    negated = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in negated[-1].parameters():
            parameter.neg_()
    options = NEEDS.get(name, {})
    plain, other = (attribute(m, images, 1, name, **options).values for m in (network, negated))
    card = METHODS[name]
    assert torch.allclose(other, -plain, rtol=1e-3, atol=1e-3 * float(plain.abs().max())) == card.odd
    assert card.turns_over({}) == card.odd
    for sizes in ({"relu": True}, {"colour": "max_abs"}, {"colour": "sum_abs"}):
        assert not card.turns_over(sizes)
    assert card.turns_over({"colour": "sum", "relu": False}) == card.odd

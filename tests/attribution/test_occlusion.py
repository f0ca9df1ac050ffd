"""Occlusion and region occlusion: what is covered, how overlaps are averaged, groups, fallback, refusals."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.attribution import attribute
from pipeline.attribution import occlusion_engine as engine
from pipeline.attribution.incremental import choice
from pipeline.attribution.incremental.choice import Choice
from pipeline.attribution.incremental.cost import Budget
from pipeline.attribution.labels import present_labels, ranks, spread
from pipeline.attribution.occlusion import patch_boxes, region_covers, touching
from pipeline.errors import MethodError


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    ).eval()  # fmt: skip


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 1, 20, 17, generator=torch.Generator().manual_seed(1)) + 0.1


@pytest.fixture
def regions() -> torch.Tensor:
    labels = torch.zeros(20, 17, dtype=torch.int64)
    labels[2:8, 2:8], labels[2:8, 8:14], labels[12:18, 3:6] = 1, 2, 5
    return torch.stack([labels, labels.clone().masked_fill_(labels == 5, 0)])


@pytest.fixture(autouse=True)
def _handling_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images as small as these would be given to plain forward passes."""
    monkeypatch.setattr(choice, "OVERHEAD", 0.0)


class Uncapturable(nn.Module):
    """Its computation depends on values of the image."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x) if float(x.sum()) > -1e9 else self.model(-x)


def slow_occlusion(
    model: nn.Module, image: torch.Tensor, target: int, patch: int, stride: int, fill: float
) -> torch.Tensor:
    """Patch by patch, pixel by pixel."""
    height, width = image.shape[2:]
    total, count = torch.zeros(height, width), torch.zeros(height, width)
    whole = model(image)[0, target]
    tops = [t for t in range(0, height, stride) if t == 0 or t - stride + patch < height]
    lefts = [t for t in range(0, width, stride) if t == 0 or t - stride + patch < width]
    for top in tops:
        for left in lefts:
            changed = image.clone()
            changed[:, :, top : top + patch, left : left + patch] = fill
            total[top : top + patch, left : left + patch] += whole - model(changed)[0, target]
            count[top : top + patch, left : left + patch] += 1
    assert (count > 0).all()
    return total / count


@pytest.mark.parametrize(("patch", "stride"), [(6, 6), (6, 4), (7, 3), (20, 20)])
def test_overlapping_patches_are_averaged(
    model: nn.Module, images: torch.Tensor, patch: int, stride: int
) -> None:
    result = attribute(model, images, 2, "occlusion", patch=patch, stride=stride, fill=0.3)
    with torch.no_grad():
        expected = torch.stack([slow_occlusion(model, x[None], 2, patch, stride, 0.3) for x in images])
    assert torch.allclose(result.values[:, 0], expected, atol=1e-6)


def test_patches_cover_every_pixel_once_where_they_do_not_overlap() -> None:
    boxes = patch_boxes((20, 17), (6, 5), (6, 5))
    count = np.zeros((20, 17), int)
    for box in boxes:
        count[box] += 1
    assert (count == 1).all()


def test_uncapturable_model_gives_the_same(
    model: nn.Module, images: torch.Tensor, regions: torch.Tensor
) -> None:
    for name, options in (
        ("occlusion", {"patch": 7, "stride": 5}),
        ("region_occlusion", {"regions": regions}),
    ):
        fast = attribute(model, images, 1, name, **options)
        slow = attribute(Uncapturable(model), images, 1, name, batch_size=3, **options)
        assert torch.allclose(fast.values, slow.values, atol=1e-6)


def test_plain_and_incremental_agree(
    model: nn.Module,
    images: torch.Tensor,
    regions: torch.Tensor,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "pipeline.attribution.occlusion_engine"):
        fast = attribute(model, images, 1, "region_occlusion", regions, fill="grey")
    assert "occlusion: incremental" in caplog.text
    used: list[Choice] = []

    def plain(*_: object, batch_size: int, **__: object) -> Choice:
        used.append(Choice(None, Budget(), batch_size, "plain"))
        return used[-1]

    monkeypatch.setattr(engine, "choose", plain)
    slow = attribute(model, images, 1, "region_occlusion", regions, fill="grey")
    assert used
    assert torch.allclose(fast.values, slow.values, atol=1e-6)
    assert torch.isnan(fast.region_scores[1, 2])
    assert torch.allclose(fast.region_scores, slow.region_scores, atol=1e-6, equal_nan=True)


def test_groups_and_pairs_are_covered_together(
    model: nn.Module, images: torch.Tensor, regions: torch.Tensor
) -> None:
    result = attribute(model, images, 1, "region_occlusion", regions, groups=[[5, 1], [5]], pairs=True)
    assert result.details["groups"] == ((1, 5), (5,), (1, 2))
    scores = result.details["group_scores"]
    with torch.no_grad():
        for i in range(2):
            for k, group in enumerate(result.details["groups"]):
                mask = torch.isin(regions[i], torch.tensor(group))
                drop = model(images[i : i + 1]) - model(images[i : i + 1].masked_fill(mask, 0.0))
                expected = drop[0, 1] if mask.any() else torch.tensor(float("nan"))
                assert torch.allclose(scores[i, k], expected, atol=1e-6, equal_nan=True)
    assert torch.allclose(scores[0, 1], result.region_scores[0, 2], atol=1e-6)


def test_an_image_is_computed_once_for_all_its_classes(
    model: nn.Module, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    class Counted(engine.Engine):
        def __init__(self, *arguments: object) -> None:
            made.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(engine, "Engine", Counted)
    result = attribute(model, images, "top-3", "occlusion", patch=6)
    assert len(made) == 2
    alone = attribute(model, images[1:], result.target[4], "occlusion", patch=6)
    assert torch.allclose(result.values[4], alone.values[0], atol=1e-7)


def test_regions_groups_and_pairs_share_one_cache(
    model: nn.Module, images: torch.Tensor, regions: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[object] = []

    class Counted(engine.Engine):
        def __init__(self, *arguments: object) -> None:
            made.append(arguments)
            super().__init__(*arguments)

    monkeypatch.setattr(engine, "Engine", Counted)
    attribute(model, images[:1], 1, "region_occlusion", regions[:1], groups=[[1, 5]], pairs=True)
    assert len(made) == 1


def test_equal_images_with_different_fills_are_not_mixed_up(model: nn.Module, images: torch.Tensor) -> None:
    twice = images[:1].repeat(2, 1, 1, 1)
    donors = torch.stack([torch.zeros_like(images[0]), torch.ones_like(images[0])])
    both = attribute(model, twice, 1, "occlusion", patch=6, fill=donors)
    alone = attribute(model, twice[1:], 1, "occlusion", patch=6, fill=donors[1:])
    assert torch.allclose(both.values[1], alone.values[0], atol=1e-7)
    assert not torch.allclose(both.values[0], both.values[1], atol=1e-4)


def test_small_images_get_plain_passes(
    model: nn.Module, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.undo()
    with caplog.at_level(logging.INFO, "pipeline.attribution.occlusion_engine"):
        attribute(model, images, 1, "occlusion", patch=6)
    assert "plain forward passes" in caplog.text


def test_touching_regions(regions: torch.Tensor) -> None:
    assert touching(regions) == [(1, 2)]


@pytest.mark.parametrize("groups", [[[9]], [["1"]], 3, [[]]])
def test_unknown_groups_are_refused(
    model: nn.Module, images: torch.Tensor, regions: torch.Tensor, groups: object
) -> None:
    with pytest.raises(MethodError, match="group"):
        attribute(model, images, 1, "region_occlusion", regions, groups=groups)


@pytest.mark.parametrize(
    "option", [{"memory_limit": 0}, {"memory_limit": "2"}, {"progress": 1}, {"batch_size": 0}]
)
def test_unusable_options_are_refused(
    model: nn.Module, images: torch.Tensor, option: dict[str, object]
) -> None:
    with pytest.raises(MethodError):
        attribute(model, images, 1, "occlusion", **option)


def test_a_tight_memory_limit_gives_the_same(model: nn.Module, images: torch.Tensor) -> None:
    roomy = attribute(model, images, 1, "occlusion", patch=5)
    tight = attribute(model, images, 1, "occlusion", patch=5, memory_limit=1.55e-5)
    assert torch.allclose(roomy.values, tight.values, atol=1e-6)


@pytest.mark.parametrize("wrap", [lambda m: m, Uncapturable])
def test_a_memory_limit_below_one_pass_is_refused(model: nn.Module, images: torch.Tensor, wrap) -> None:
    with pytest.raises(MethodError, match=r"less than a forward pass takes; give 0\.00002 or more"):
        attribute(wrap(model), images, 1, "occlusion", patch=5, memory_limit=1e-6)


def test_predicted_and_measured_cost_are_logged(
    model: nn.Module, images: torch.Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "pipeline.attribution.occlusion_engine"):
        attribute(model, images, 1, "occlusion", patch=2)
    assert "predicted" in caplog.text
    assert re.search(r"about \d+\.\d\d s expected", caplog.text)
    assert re.search(r"took \d+\.\d\d s", caplog.text)


def test_progress_goes_to_standard_error(
    model: nn.Module, images: torch.Tensor, capsys: pytest.CaptureFixture[str]
) -> None:
    attribute(model, images, 1, "occlusion", patch=10, progress=True)
    shown = capsys.readouterr()
    assert "8/8" in shown.err
    assert re.search(r"\d:\d\d:\d\d", shown.err)  # time left
    assert not shown.out


@pytest.mark.parametrize("scale", [1, 3 * 2**20])
def test_labels_are_found_and_ranked(scale: int) -> None:
    labels = torch.tensor([[0, 3, 3], [7, -1, 0]]) * scale
    assert present_labels(labels) == (3 * scale, 7 * scale)
    assert ranks(labels, present_labels(labels)).tolist() == [[0, 1, 1], [2, 0, 0]]


@pytest.mark.parametrize("scale", [1, 2**17, 3 * 2**20])
def test_scores_are_spread_over_their_regions(scale: int) -> None:
    labels = torch.tensor([[[0, 3, 3], [7, -1, 0]], [[7, 7, 0], [0, 0, 3]]]) * scale
    values = spread(torch.tensor([[0.5, -2.0], [1.0, 4.0]]), labels, (3 * scale, 7 * scale))
    assert values.tolist() == [[[0, 0.5, 0.5], [-2, 0, 0]], [[4, 4, 0], [0, 0, 1]]]
    boxes = [c.box if c else None for c in region_covers(labels[0], [(3 * scale,), (9,), (7 * scale,)])]
    assert boxes == [(slice(0, 1), slice(1, 3)), None, (slice(1, 2), slice(0, 1))]

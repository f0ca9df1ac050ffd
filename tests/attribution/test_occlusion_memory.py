"""What occlusions take at most: tensors alive at once, counted, against the documented bound."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.attribution import attribute
from pipeline.attribution.incremental import choice, winograd
from pipeline.attribution.incremental.memory import LiveBytes
from pipeline.attribution.incremental.plan import make_plan
from pipeline.models.architectures.rieke import RiekeCNN
from pipeline.models.graph import capture


def taken(what: Callable[[], Any]) -> int:
    """Bytes of the tensors that are alive at once while something is done."""
    with LiveBytes() as counted:
        what()
    return counted.peak


def regions(shape: tuple[int, ...]) -> torch.Tensor:
    """Label blocks, three along each axis."""
    cells = torch.meshgrid(*[torch.arange(n) * 6 // n for n in shape], indexing="ij")
    return sum(cell * 3**k for k, cell in enumerate(cells)) + 1  # type: ignore[return-value]


class Gated(nn.Module):
    """Squeeze and excitation in every block: locality ends early."""

    def __init__(self) -> None:
        super().__init__()
        widths = (16, 32, 64)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(c, w, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(w), nn.SiLU(),
                nn.Conv2d(w, w, 3, padding=1, bias=False), nn.BatchNorm2d(w), nn.ReLU(),
            )
            for c, w in zip((1, *widths), widths, strict=False)
        )  # fmt: skip
        self.gates = nn.ModuleList(nn.Linear(w, w) for w in widths)
        self.classes = nn.Linear(widths[-1], 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block, gate in zip(self.blocks, self.gates, strict=True):
            x = block(x)
            x = x * torch.sigmoid(gate(x.mean((2, 3))))[:, :, None, None]
        return self.classes(x.mean((2, 3)))


def plain_3d() -> tuple[nn.Module, tuple[int, ...]]:
    return RiekeCNN((40, 48, 40), pools=(2, 2, 2, 1), hidden=(8,)), (40, 48, 40)


def residual_3d() -> tuple[nn.Module, tuple[int, ...]]:
    from monai.networks.nets import ResNet

    widths = [4, 8, 16, 32]
    return ResNet("basic", [1, 1, 1, 1], widths, n_input_channels=1, num_classes=2), (24, 24, 24)


def dense_3d() -> tuple[nn.Module, tuple[int, ...]]:
    from monai.networks.nets import DenseNet

    return DenseNet(3, 1, 2, init_features=16, growth_rate=8, block_config=(3, 4, 3)), (32, 32, 32)


def residual_2d() -> tuple[nn.Module, tuple[int, ...]]:
    from monai.networks.nets import ResNet

    settings = {"spatial_dims": 2, "n_input_channels": 1, "num_classes": 2}
    return ResNet("basic", [2, 1, 1, 1], [8, 8, 16, 32], **settings), (96, 96)


def squeezed_2d() -> tuple[nn.Module, tuple[int, ...]]:
    return Gated(), (96, 96)


@pytest.mark.parametrize(
    ("make", "narrow"),
    [
        (plain_3d, False),
        (residual_3d, False),
        (residual_3d, True),
        (dense_3d, False),
        (residual_2d, False),
        (squeezed_2d, False),
    ],
)
def test_peak_is_at_most_the_cache_and_two_forward_passes(
    make: Callable[[], tuple[nn.Module, tuple[int, ...]]],
    narrow: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(choice, "OVERHEAD", 0.0)  # images as small as these would be given to plain passes
    if narrow:  # Winograd's filtering, which is for wide layers
        monkeypatch.setattr(winograd, "CHANNELS", 4)
        monkeypatch.setattr(winograd, "SCRATCH", 2**16)
    torch.manual_seed(0)
    model, shape = make()
    model.eval()
    image, labels = torch.rand(1, 1, *shape), regions(shape)
    with torch.inference_mode():
        forward = taken(lambda: model(image))
    plan = make_plan(capture(model, image), 1, image.dtype)
    cache = sum(4 * torch.Size(plan.shapes[name]).numel() for name in plan.needed)

    def call(limit: float | None) -> torch.Tensor:
        return attribute(model, image, 1, "region_occlusion", labels, memory_limit=limit).region_scores

    expected = call(None)
    with caplog.at_level(logging.INFO, "pipeline.attribution.occlusion_engine"):
        assert taken(lambda: call(None)) <= cache + 2 * forward
    assert "occlusion: incremental" in caplog.text
    said = re.search(r"at most (\S+) MiB .*activations kept (\S+), a forward pass (\S+)\)", caplog.text)
    assert said is not None
    printed = [float(v) for v in said.groups()]
    assert printed[1] == pytest.approx(cache / 2**20, abs=0.05)
    assert printed[0] <= (cache + 2 * forward) / 2**20 + 0.05
    bound = cache + 2 * forward
    for limit in (forward + 4 * image.nbytes, 1.5 * bound, 4 * bound):  # plain passes, then larger batches
        answers: list[torch.Tensor] = []
        assert taken(lambda a=answers, n=limit: a.append(call(n / 2**30))) <= limit
        assert torch.allclose(answers[0], expected, atol=1e-5 * float(expected.abs().max().clamp(min=1)))

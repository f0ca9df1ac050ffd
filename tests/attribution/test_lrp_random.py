"""LRP with ε → 0 equals input × gradient on random small networks of any shape."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from pipeline.attribution import attribute
from pipeline.models.graph import capture

SMALLEST = 1e-9
"""A pre-activation nearer to 0 than this makes the law's two sides choose freely: rejected, and counted."""
ENOUGH = 200
counted: Counter[str] = Counter()
BLOCKS = (
    "conv",
    "grouped",
    "strided",
    "norm",
    "relu",
    "max",
    "average",
    "residual",
    "dense",
    "shared",
    "pad",
)


class Drawn(nn.Module):
    """A network put together from drawn blocks."""

    def __init__(self, dims: int, blocks: list[str], seed: int, *, flatten: bool) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.dims, self.blocks, self.flatten = dims, blocks, flatten
        self.conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
        norm = (nn.BatchNorm2d, nn.BatchNorm3d)[dims - 2]
        self.stem = self.conv(2, 4, 2)
        self.layers = nn.ModuleList()
        channels = 4
        for block in blocks:
            if block in {"conv", "strided", "residual", "shared"}:
                step = 2 if block == "strided" else 1
                self.layers.append(
                    self.conv(channels, channels, 3, stride=step, padding=1, bias=block != "conv")
                )
            elif block == "grouped":
                self.layers.append(self.conv(channels, channels, 3, padding=2, dilation=2, groups=2))
            elif block == "dense":
                self.layers.append(nn.Sequential(norm(channels), nn.ReLU(), self.conv(channels, 2, 1)))
                channels += 2
            elif block == "norm":
                self.layers.append(norm(channels))
            else:
                self.layers.append(nn.Identity())
        self.head = nn.LazyLinear(3)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        max_pool = (functional.max_pool2d, functional.max_pool3d)[self.dims - 2]
        avg_pool = (functional.avg_pool2d, functional.avg_pool3d)[self.dims - 2]
        for block, layer in zip(self.blocks, self.layers, strict=True):
            if block == "relu":
                y = functional.relu(y)
            elif block == "max":
                y = max_pool(y, 2, stride=1, padding=1)
            elif block == "average":
                y = avg_pool(y, 2, stride=1, padding=1)
            elif block == "residual":
                y = functional.relu(layer(functional.relu(y))) + y
            elif block == "shared":
                y = layer(functional.relu(layer(y)))
            elif block == "dense":
                y = torch.cat([y, layer(y)], 1)
            elif block == "pad":
                y = functional.pad(y, (1, 0) * self.dims, value=0.5)
            else:
                y = layer(y)
        y = functional.relu(y)
        return self.head(y.flatten(1) if self.flatten else y.mean(tuple(range(2, y.ndim))))


def randomise(model: nn.Module) -> None:
    """Draw continuous normals for every weight and shift; keep scales of order one."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.copy_(torch.rand_like(value) + 0.5)
            elif value.is_floating_point():
                fan = value[0].numel() if value.ndim > 1 else 1
                value.copy_(torch.randn_like(value) / fan**0.5)


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(
    dims=st.sampled_from((2, 3)),
    blocks=st.lists(st.sampled_from(BLOCKS), min_size=1, max_size=4),
    seed=st.integers(0, 2**31),
    flatten=st.booleans(),
)
def check(dims: int, blocks: list[str], seed: int, flatten: bool) -> None:
    if counted["checked"] >= ENOUGH:  # what is drawn beyond makes up for rejections
        return
    model = Drawn(dims, blocks, seed, flatten=flatten).double()
    images = torch.randn(2, 2, *(6,) * dims, dtype=torch.float64)
    with torch.no_grad():
        model(images)
    randomise(model)
    graph = capture(model, images)
    before = [op.inputs[0] for op in graph.operations if op.kind == "relu"]
    values = graph.run(images, keep=before)
    if any(bool((values[name].abs() < SMALLEST).any()) for name in before):
        counted["rejected"] += 1
        return
    lrp = attribute(model, images, [0, 2], "lrp", composite="epsilon", epsilon=1e-13)
    wanted = attribute(model, images, [0, 2], "input_x_gradient").values
    counted["checked"] += 1
    scale = float(wanted.abs().max())
    assert float((lrp.values - wanted).abs().max()) <= 1e-4 * scale
    assert lrp.conservation_error is not None
    assert float(lrp.conservation_error.max()) < 1e-4


@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
def test_epsilon_is_input_times_gradient_on_random_networks() -> None:
    counted.clear()
    check()
    assert counted["checked"] >= ENOUGH, counted

"""Incremental occlusion equals full forward passes: random networks, covers, fills, 2D and 3D."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipeline.attribution.fills import make_fill
from pipeline.attribution.incremental import winograd
from pipeline.attribution.incremental.cost import Budget
from pipeline.attribution.incremental.engine import Engine
from pipeline.attribution.incremental.plan import make_plan
from pipeline.attribution.incremental.steps import Windowed
from pipeline.attribution.incremental.windows import ints
from pipeline.attribution.occlusion_engine import Cover, covered
from pipeline.models.graph import capture

TOLERANCE = 1e-5


class Net(nn.Module):
    """Random layers; `wiring` says what is done with each layer's result."""

    def __init__(self, layers: list[tuple[str, nn.Module]], head: str, classes: nn.Module) -> None:
        super().__init__()
        self.wiring = [how for how, _ in layers]
        self.layers = nn.ModuleList(layer for _, layer in layers)
        self.head, self.classes = head, classes

    def features(self, x: torch.Tensor) -> torch.Tensor:
        for how, layer in zip(self.wiring, self.layers, strict=True):
            y = layer(x)
            if how == "add":
                y = y + x
            elif how == "cat":
                y = torch.cat([x, y], 1)
            elif how == "gate":
                y = x * torch.sigmoid(y)
            elif how == "slice":
                y = y[:, :, ::2]
            elif how == "pad":
                y = nn.functional.pad(y, (1, 0) * (x.ndim - 3) + (0, 2), value=0.25)
            elif how == "squeeze":
                y = y * torch.sigmoid(y.mean(tuple(range(2, y.ndim)), keepdim=True))
            x = y
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.features(x)
        y = y.mean(tuple(range(2, y.ndim))) if self.head == "mean" else y.flatten(1)
        return self.classes(y)


def _convolution(draw: Callable, axes: int, channels: int, out: int, *, same: bool) -> nn.Module:
    kind = {2: nn.Conv2d, 3: nn.Conv3d}[axes]
    kernel = draw(st.sampled_from([1, 3])) if same else draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 2))
    groups = draw(st.sampled_from([1, 2])) if channels % 2 == out % 2 == 0 else 1
    padding = dilation * (kernel - 1) // 2 if same else draw(st.integers(0, 2))
    stride = 1 if same else draw(st.integers(1, 2))
    bias = draw(st.booleans())
    return kind(channels, out, kernel, stride, padding, dilation, groups, bias=bias)


@st.composite
def networks(draw: Callable, axes: int) -> tuple[Net, tuple[int, ...]]:
    side = 14 if axes == 2 else 9
    shape = tuple(draw(st.integers(side - 3, side)) for _ in range(axes))
    torch.manual_seed(draw(st.integers(0, 10**6)))
    norms = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[axes]
    maxes = {2: nn.MaxPool2d, 3: nn.MaxPool3d}[axes]
    means = {2: nn.AvgPool2d, 3: nn.AvgPool3d}[axes]
    transposed = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[axes]
    layers: list[tuple[str, nn.Module]] = []
    channels = 2
    kinds = [
        "conv",
        "conv",
        "residual",
        "dense",
        "gate",
        "norm",
        "act",
        "max",
        "avg",
        "slice",
        "pad",
        "transposed",
        "squeeze",
    ]
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(kinds))
        how, out = "", draw(st.sampled_from([2, 3, 4]))
        if kind == "conv":
            layer: nn.Module = _convolution(draw, axes, channels, out, same=False)
        elif kind in {"residual", "gate", "dense"}:
            out = out if kind == "dense" else channels
            how = {"residual": "add", "gate": "gate", "dense": "cat"}[kind]
            layer = _convolution(draw, axes, channels, out, same=True)
        elif kind == "max":
            padding = draw(st.integers(0, 1))
            kernel, dilation = draw(st.integers(2, 3)), draw(st.sampled_from([1, 1, 2]))
            layer = maxes(
                kernel, draw(st.integers(1, 3)), padding, dilation=dilation, ceil_mode=draw(st.booleans())
            )
        elif kind == "avg":
            padding = draw(st.integers(0, 1))
            layer = means(2, draw(st.integers(1, 2)), padding, draw(st.booleans()), draw(st.booleans()))
        elif kind == "transposed":
            stride, dilation = draw(st.integers(1, 2)), draw(st.integers(1, 2))
            groups = draw(st.sampled_from([1, 2])) if channels % 2 == out % 2 == 0 else 1
            settings_ = {"output_padding": stride - 1, "groups": groups, "dilation": dilation}
            layer = transposed(channels, out, draw(st.integers(2, 3)), stride, 1, **settings_)
        elif kind == "norm":
            layer = norms(channels)
        elif kind == "act":
            layer = draw(st.sampled_from([nn.ReLU, nn.ReLU6, nn.SiLU, nn.Sigmoid, nn.ELU, nn.PReLU]))()
        else:
            how, layer = kind, nn.Identity()
        if draw(st.booleans()) and kind in {"conv", "residual", "dense"}:
            rest = [norms(out)] if draw(st.booleans()) else []
            layer = nn.Sequential(layer, *rest, nn.ReLU())
        candidate = Net([*layers, (how, layer)], "", nn.Identity()).eval()
        try:
            with torch.no_grad():
                grid = candidate.features(torch.zeros(2, 2, *shape)).shape
        except RuntimeError:
            continue
        if min(grid[2:]) < 1 or grid[1] > 12 or max(grid[2:]) > 3 * side:
            continue
        layers.append((how, layer))
        channels = grid[1]
    head = draw(st.sampled_from(["mean", "flat"]))
    net = Net(layers, head, nn.Identity()).eval()
    with torch.no_grad():
        width = net(torch.zeros(2, 2, *shape)).shape[1]
    net.classes = (
        nn.Linear(width, 3)
        if draw(st.booleans())
        else nn.Sequential(nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, 3))
    )
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, -1.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return net.eval(), shape


@st.composite
def covers(draw: Callable, shape: tuple[int, ...]) -> Cover:
    box = []
    for side in shape:
        start = draw(st.integers(0, side - 1))
        box.append(slice(start, draw(st.integers(start + 1, side))))
    if draw(st.booleans()):
        return Cover(tuple(box))
    mask = torch.rand([s.stop - s.start for s in box]) < 0.5
    return Cover(tuple(box), mask if mask.any() else None)


def compare(
    net: nn.Module,
    images: torch.Tensor,
    rows: list[list[Cover]],
    fill: object,
    budget: Budget,
    *,
    folded: bool,
    apart: bool,
) -> float:
    """Largest difference to full forward passes, in units of the largest logit."""
    graph = capture(net, images)
    plan = make_plan(graph, images.shape[1], images.dtype)
    if apart:
        pooled = [step.pooling for step in plan.local if isinstance(step, Windowed) and step.pooling]
        plan = make_plan(graph, images.shape[1], images.dtype, frozenset(pooled))
    if folded:
        plan.prepare()
    filler = make_fill(images, fill)
    worst = 0.0
    for i, row in enumerate(rows):
        changed = [covered(images[i], cover, filler, i) for cover in row]
        with torch.no_grad():
            expected = net(torch.stack([images[i], *changed]))
        with torch.inference_mode():
            engine = Engine(plan, images[i : i + 1], budget)
            patches = [
                (ints([s.start for s in c.box]), y[(slice(None), *c.box)])
                for c, y in zip(row, changed, strict=True)
            ]
            seen: list[int] = []
            found = dict(engine.occluded(iter(patches), seen.append))
        assert sorted(found) == list(range(len(row)))
        assert sum(seen) == len(row)
        answer = torch.stack([engine.logits[0], *(found[k] for k in range(len(row)))])
        worst = max(worst, float((answer - expected).abs().max() / expected.abs().max().clamp(min=1e-3)))
    return worst


CASES_A_NETWORK = 6
"""Capturing a network takes longer than a case: each is asked several questions."""


def check(data: st.DataObject, axes: int) -> None:
    net, shape = data.draw(networks(axes))
    for _ in range(CASES_A_NETWORK):
        count = data.draw(st.integers(1, 4))
        images = torch.randn(count, 2, *shape)
        rows = [[data.draw(covers(shape)) for _ in range(data.draw(st.integers(1, 4)))] for _ in range(count)]
        fill = data.draw(st.sampled_from([0.0, 0.7, "grey", "patch_mean", "image_mean", "blur", "tensor"]))
        donor = torch.randn(2, *shape) if fill == "tensor" else fill
        budget = data.draw(
            st.sampled_from([Budget(), Budget(wave=1, alive=1, batch=1, images=1), Budget(images=3)])
        )
        how = {"folded": data.draw(st.booleans()), "apart": data.draw(st.booleans())}
        small = {"CHANNELS": 1, "ROWS": 1, "FILL": 9.0} if data.draw(st.booleans()) else {"ROWS": 27}
        with mock.patch.multiple(winograd, **small):  # else only wide layers are filtered
            assert compare(net, images, rows, donor, budget, **how) <= TOLERANCE


@settings(max_examples=50)
@given(st.data())
def test_equals_full_forwards_in_2d(data: st.DataObject) -> None:
    check(data, 2)


@settings(max_examples=35)
@given(st.data())
def test_equals_full_forwards_in_3d(data: st.DataObject) -> None:
    check(data, 3)


@pytest.mark.long
@pytest.mark.timeout(3600)
@settings(max_examples=500)
@given(st.data(), st.sampled_from([2, 3]))
def test_equals_full_forwards_in_many_networks(data: st.DataObject, axes: int) -> None:
    check(data, axes)


def test_an_occlusion_that_changes_nothing_has_exactly_the_whole_logits() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 2)).eval()
    image = torch.zeros(1, 1, 8, 8)
    engine = Engine(make_plan(capture(net, image), 1, image.dtype), image, Budget())
    ((number, logits),) = engine.occluded(
        iter([(np.zeros(2, np.int64), torch.zeros(1, 3, 3))]), lambda _: None
    )
    assert number == 0
    assert torch.equal(logits, engine.logits[0])

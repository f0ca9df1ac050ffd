"""Winograd's filtering against the direct sum, and where it is used."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from pipeline.attribution import attribute
from pipeline.attribution.incremental import winograd
from pipeline.attribution.incremental.plan import make_plan
from pipeline.attribution.incremental.stages import Convolution
from pipeline.attribution.incremental.steps import Windowed
from pipeline.models.graph import capture


@settings(max_examples=60)
@given(
    count=st.integers(1, 3),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    outputs=st.tuples(*[st.integers(1, 7)] * 3),
    padding=st.tuples(*[st.integers(0, 2)] * 3),
    scratch=st.sampled_from([1, 40_000, 2**24]),
    last=st.booleans(),
    with_bias=st.booleans(),
    scaled=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equals_the_direct_sum(count, channels, outputs, padding, scratch, last, with_bias, scaled, seed):
    torch.manual_seed(seed)
    sizes = [max(n + 2 - 2 * p, 1) for n, p in zip(outputs, padding, strict=True)]
    outputs = [n + 2 * p - 2 for n, p in zip(sizes, padding, strict=True)]
    x = torch.randn(count, channels[0], *sizes)
    x = x.contiguous(memory_format=torch.channels_last_3d) if last else x
    weight = torch.randn(channels[1], channels[0], 3, 3, 3)
    bias = torch.randn(channels[1]) if with_bias else None
    scale = torch.randn(channels[1], dtype=torch.float64) if scaled else None
    whole = weight.double() if scale is None else weight.double() * scale[:, None, None, None, None]
    expected = functional.conv3d(
        x.double(), whole, None if bias is None else bias.double(), padding=list(padding)
    )
    with mock.patch.object(winograd, "SCRATCH", scratch):
        found = winograd.convolve(x, winograd.transformed(weight, scale, 2), bias, padding)
    assert list(found.shape[2:]) == outputs
    assert found.is_contiguous(memory_format=torch.channels_last_3d)
    size = functional.conv3d(x.double().abs(), whole.abs(), padding=list(padding)).max().clamp(min=1)
    assert float((found - expected).abs().max()) <= 2e-6 * float(size)


@pytest.mark.parametrize(
    ("other", "transformable"),
    [
        ({}, True),
        ({"out_channels": 256}, True),
        ({"out_channels": 64}, False),
        ({"stride": 2}, False),
        ({"dilation": 2}, False),
        ({"groups": 2}, False),
        ({"kernel_size": (3, 3, 1)}, False),
        ({"dtype": torch.float64}, False),
    ],
)
def test_which_convolutions_it_is_for(other, transformable):
    given = {"in_channels": 128, "out_channels": 128, "kernel_size": 3, **other}
    layer = nn.Conv3d(**given)
    settled = winograd.suits(layer.weight, layer.stride, layer.dilation, layer.groups)
    assert settled == transformable


def test_it_pays_where_tiles_fill_the_boxes():
    assert winograd.pays(1, (12, 12, 12))
    assert winograd.pays(2, (6, 6, 6))
    assert not winograd.pays(1, (2, 2, 2))
    assert not winograd.pays(1000, (1, 1, 1))


def test_wide_layers_are_filtered_and_the_answer_is_that_of_full_passes():
    torch.manual_seed(0)
    wide = [nn.Conv3d(128, 128, 3, padding=1, bias=False), nn.BatchNorm3d(128), nn.ReLU()]
    layers = [
        nn.Conv3d(1, 128, 3, stride=2, padding=1),
        nn.ReLU(),
        *wide,
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
    ]
    model = nn.Sequential(*layers, nn.Linear(128, 2)).eval()
    model[3].running_mean.normal_(std=0.1)
    model[3].running_var.uniform_(0.2, 0.4)
    image = torch.rand(1, 1, 32, 32, 32)
    plan = make_plan(capture(model, image), 1, image.dtype)
    stages = [s for step in plan.local if isinstance(step, Windowed) for s in step.stages]
    before = [s.effort for s in stages]
    plan.prepare()
    spared = [b / s.effort for s, b in zip(stages, before, strict=True) if isinstance(s, Convolution)]
    assert spared == [1.0, winograd.GAIN]

    labels = torch.zeros(32, 32, 32, dtype=torch.int64)
    for k, start in enumerate((0, 7, 15), 1):
        labels[start : start + 7, 3:20, 4 : 20 + k] = k
    with mock.patch.object(winograd, "convolve", wraps=winograd.convolve) as used:
        found = attribute(model, image, 1, "region_occlusion", labels, memory_limit=0.25)
    assert used.call_count > 1
    with torch.no_grad():
        whole = model(image)
        plain = [whole[0, 1] - model(torch.where(labels == k, 0, image))[0, 1] for k in (1, 2, 3)]
    assert float((found.region_scores[0] - torch.stack(plain)).abs().max()) <= 1e-5 * float(whole.abs().max())

"""Every network beside every method: works, or refuses with one of the refusals of docs/methods.md."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.attribution import METHODS, attribute
from pipeline.errors import AuditError

WAYS = {"integrated_gradients": {"steps": 2}, "smooth_grad": {"samples": 2}}
NO_POOLING = "CAM needs global average pooling that feeds one linear layer"
NO_STATE = "MACE explains with concepts learnt from a cohort"
SINGLE = "the last spatial activation is a map of 1×1"
EMPTY = "the rectified Grad-CAM is zero"
OTHER_HEAD = {"vgg", "rieke-3d"}


def outcome(network, method: str, target: int) -> str:
    """Nothing where the method works, else what it says."""
    images = network.images[:1]
    shape = images.shape[2:]
    options: dict[str, object] = dict(WAYS.get(method, {}))
    if method == "occlusion":
        options["patch"] = tuple(s // 2 for s in shape)
    if method == "region_occlusion":
        options["regions"] = (torch.arange(shape[-1]) // (shape[-1] // 2)).expand(shape) + 1
    try:
        result = attribute(network.model, images, target, method, **options)
    except AuditError as error:
        return str(error)
    assert result.values.shape[2:] == shape
    assert torch.isfinite(result.values).all()
    assert bool(result.values.any())
    return ""


def test_works_or_refuses_as_documented(network) -> None:
    single = outcome(network, "grad_cam", 1).startswith(SINGLE)
    assert single == (torch.tensor(grid(network)).prod().item() == 1)
    for method in METHODS:
        said = outcome(network, method, 1)
        if method == "mace":
            assert said.startswith(NO_STATE)
        elif method == "cam" and network.name in OTHER_HEAD:
            assert said.startswith(NO_POOLING)
        elif METHODS[method].family == "activation" and single:
            assert said.startswith(SINGLE)
        elif method == "guided_grad_cam" and said:
            raw = attribute(network.model, network.images[:1], 1, "grad_cam").details["coarse"]
            assert said.startswith(EMPTY)
            assert float(raw.max()) <= 0
        else:
            assert said == "", method


def grid(network) -> tuple[int, ...]:
    """Grid of the last spatial activation."""
    from pipeline.models.graph import capture

    return capture(network.model, network.images).landmarks.grid


@pytest.mark.parametrize("method", METHODS)
def test_table_of_the_guide_names_every_method(method: str) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    table = guide.partition("## Network × method")[2]
    assert f"`{method}`" in table

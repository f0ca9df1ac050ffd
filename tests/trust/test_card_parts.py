"""Classes told apart, colours exchanged, arithmetic counted."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.attribution import attribute, logits
from pipeline.errors import MethodError
from pipeline.trust.classes import distinction
from pipeline.trust.colour import colours_exchanged
from pipeline.trust.cost import operations
from pipeline.trust.similarity import similarity


def test_what_two_class_maps_share_is_named():
    rng = np.random.default_rng(0)
    one, two = rng.normal(size=(2, 40, 40))
    strong = np.abs(rng.normal(size=(40, 40)))
    pairs = {
        "none": (one, one + 0.1 * two),
        "sign": (one, -one + 0.1 * two),
        "places": (one, two),
        "mixed": (strong * np.sign(one), strong * np.sign(two)),
    }
    for name, (a, b) in pairs.items():
        found = similarity(a, b)
        assert distinction(found.rank_signed, found.rank_absolute) == name
    constant = similarity(one, np.ones_like(one))
    assert distinction(constant.rank_signed, constant.rank_absolute) == ""
    assert distinction(None, 0.2) == ""


def test_exchanged_colours_are_the_colours_of_the_photograph():
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    colours = torch.rand(1, 3, 5, 6, dtype=torch.float64)
    image = torch.stack([(colours[:, c] - mean[c]) / std[c] for c in range(3)], 1)
    made = colours_exchanged(image, mean, std)
    for channel, source in enumerate((2, 0, 1)):
        expected = (colours[:, source] - mean[channel]) / std[channel]
        assert torch.allclose(made[:, channel], expected, atol=1e-12)
    thrice = image
    for _ in range(3):
        thrice = colours_exchanged(thrice, mean, std)
    assert torch.allclose(thrice, image, atol=1e-12)
    with pytest.raises(MethodError):
        colours_exchanged(torch.zeros(1, 1, 4, 4), (0.0,), (1.0,))


@pytest.mark.parametrize("dims", [2, 3])
def test_arithmetic_is_counted_as_by_hand(dims):
    kind = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    side = 8
    model = nn.Sequential(
        kind(1, 4, 3, padding=1),
        nn.ReLU(),
        kind(4, 2, 3, padding=1),
        nn.Flatten(),
        nn.Linear(2 * side**dims, 2),
    ).eval()
    image = torch.rand(1, 1, *[side] * dims)
    logits(model, image)  # capture
    scores, count = operations(lambda: logits(model, image))
    by_hand = 2 * (side**dims * 3**dims * (4 + 8) + 2 * side**dims * 2)
    assert count == by_hand
    assert torch.allclose(scores, model(image), atol=1e-6)
    _, gradient = operations(lambda: attribute(model, image, 1, "gradient"))
    assert gradient == 2 * by_hand  # backwards to the image the same products once more
    half = torch.cat([image, image])
    assert operations(lambda: logits(model, half))[1] == 2 * by_hand

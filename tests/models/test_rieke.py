"""The networks after Rieke 2018."""

import pytest
import torch

from pipeline.errors import ModelError
from pipeline.models.architectures import build
from pipeline.models.architectures.rieke import RiekeCNN, RiekeGAP


def test_the_last_map_keeps_at_least_eight_voxels_a_side():
    model = RiekeGAP().eval()
    with torch.inference_mode():
        last = model.features(torch.zeros(1, 1, 80, 100, 80))
    assert tuple(last.shape) == (1, 64, 20, 25, 20)


def test_the_weights_stay_below_four_megabytes():
    size = sum(t.numel() * t.element_size() for t in RiekeGAP().state_dict().values())
    assert size < 4e6


def test_the_head_is_average_pooling_and_one_linear_layer():
    model = RiekeGAP(num_classes=3).eval()
    image = torch.randn(2, 1, 16, 20, 16)
    with torch.inference_mode():
        means = model.features(image).mean((2, 3, 4))
        torch.testing.assert_close(model(image), means @ model.classifier.weight.T + model.classifier.bias)


def test_the_original_has_5120_features_at_its_own_size():
    model = RiekeCNN((193, 229, 193))
    assert model.classifier[1].in_features == 5120
    assert [m.out_features for m in model.classifier if isinstance(m, torch.nn.Linear)] == [128, 64, 2]


def test_the_original_computes_logits_at_a_smaller_size():
    model = RiekeCNN((78, 84, 78), num_classes=3).eval()
    assert tuple(model(torch.zeros(2, 1, 78, 84, 78)).shape) == (2, 3)


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="too small"):
        RiekeCNN((20, 20, 20))
    with pytest.raises(ModelError, match="2 widths but 4 pools"):
        build("rieke_gap", {"widths": [4, 8]})

"""Occlusion on whole networks against plain forward passes, one patch at a time."""

import pytest
import torch

from pipeline.attribution import attribute
from pipeline.models.opening import open_model


def plainly(model, image, patch):
    """Drop of class 1 for every patch of a tiling, by full forward passes."""
    drops = {}
    with torch.no_grad():
        whole = model(image)[0]
        for row in range(0, image.shape[2], patch):
            for column in range(0, image.shape[3], patch):
                covered = image.clone()
                covered[:, :, row : row + patch, column : column + patch] = 0
                drops[row, column] = (whole[1] - model(covered)[0, 1]).item()
    return drops, float(whole.abs().max())


def test_the_reference_model_in_single_precision():
    from pipeline.phantoms.retina import retina_phantom

    model = open_model("retinopathy")
    image = model.prepare(retina_phantom(123, 3, size=256).photograph).tensor
    drops, largest = plainly(model.module, image, 128)
    values = attribute(model.module, image, 1, method="occlusion", patch=128, stride=128).values[0, 0]
    assert max(abs(d) for d in drops.values()) > 0.1
    assert all(abs(values[at].item() - d) <= 1e-5 * largest for at, d in drops.items())


@pytest.mark.parametrize("settled", [True, False])
def test_squeeze_excitation_in_double_precision(settled):
    """In single precision a random network multiplies rounding; in double the two ways must agree."""
    from monai.networks.nets import EfficientNetBN

    torch.manual_seed(0)
    model = EfficientNetBN("efficientnet-b0", pretrained=False, in_channels=3, num_classes=3).double()
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    if settled:
        with torch.no_grad():
            for _ in range(20):
                model.train()(torch.rand(6, 3, 64, 64, dtype=torch.float64))
    model.eval()
    drops, largest = plainly(model, image, 32)
    values = attribute(model, image, 1, method="occlusion", patch=32, stride=32).values[0, 0]
    assert all(abs(values[at].item() - d) <= 1e-9 * largest for at, d in drops.items())

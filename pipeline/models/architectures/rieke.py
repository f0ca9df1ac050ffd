"""3D networks after Rieke et al. 2018 for Alzheimer's disease on T1-weighted MRI."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def _blocks(in_channels: int, widths: Sequence[int], pools: Sequence[int], padding: int) -> nn.Sequential:
    if len(widths) != len(pools):
        raise ValueError(f"{len(widths)} widths but {len(pools)} pools")
    layers: list[nn.Module] = []
    for width, pool in zip(widths, pools, strict=True):
        layers += [nn.Conv3d(in_channels, width, 3, padding=padding), nn.BatchNorm3d(width), nn.ReLU()]
        if pool > 1:
            layers.append(nn.MaxPool3d(pool))
        in_channels = width
    return nn.Sequential(*layers)


class RiekeGAP(nn.Module):
    """Convolution blocks, global average pooling, one linear layer.

    The head makes class activation maps exact; two of the four pools are left out, so that the last map
    keeps a quarter of the input's resolution (20 × 24 × 20 cells of 8 mm for the 2 mm grid).

    Parameters
    ----------
    num_classes : int, default 2
    in_channels : int, default 1
    widths : sequence of int, default (8, 16, 32, 64)
        Channels of each block: convolution 3×3×3, BatchNorm, ReLU, max-pool.
    pools : sequence of int, default (2, 2, 1, 1)
        Max-pool size after each block; 1 for none.

    References
    ----------
    Rieke, Eitel, Weygandt, Haynes & Ritter 2018, arXiv:1808.02874
    """

    def __init__(
        self,
        num_classes: int = 2,
        in_channels: int = 1,
        widths: Sequence[int] = (8, 16, 32, 64),
        pools: Sequence[int] = (2, 2, 1, 1),
    ) -> None:
        super().__init__()
        self.features = _blocks(in_channels, widths, pools, padding=1)
        self.pool = nn.AdaptiveAvgPool3d(1)
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, shape (N, num_classes), of images of shape (N, in_channels, X, Y, Z)."""
        logits: torch.Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return logits


class RiekeCNN(nn.Module):
    """The original network: unpadded convolutions, pools 2-3-2-3, a flattened head with dropout.

    Parameters
    ----------
    shape : sequence of int
        Spatial shape of the input; (193, 229, 193) gives the paper's 5120 features.
    num_classes : int, default 2
    in_channels : int, default 1
    widths : sequence of int, default (8, 16, 32, 64)
    pools : sequence of int, default (2, 3, 2, 3)
    hidden : sequence of int, default (128, 64)
        Widths of the fully connected layers before the last.

    References
    ----------
    Rieke, Eitel, Weygandt, Haynes & Ritter 2018, arXiv:1808.02874
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int = 2,
        in_channels: int = 1,
        widths: Sequence[int] = (8, 16, 32, 64),
        pools: Sequence[int] = (2, 3, 2, 3),
        hidden: Sequence[int] = (128, 64),
    ) -> None:
        super().__init__()
        self.features = _blocks(in_channels, widths, pools, padding=0)
        size = widths[-1]
        for side in shape:
            for pool in pools:
                side = (side - 2) // pool
            if side < 1:
                raise ValueError(f"an input of shape {tuple(shape)} is too small for pools {tuple(pools)}")
            size *= side
        layers: list[nn.Module] = [nn.Flatten()]
        for width in hidden:
            layers += [nn.Linear(size, width), nn.ReLU(), nn.Dropout(0.4)]
            size = width
        self.classifier = nn.Sequential(*layers, nn.Linear(size, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits, shape (N, num_classes), of images of shape (N, in_channels, X, Y, Z)."""
        logits: torch.Tensor = self.classifier(self.features(x))
        return logits

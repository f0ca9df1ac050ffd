"""What is put in the place of an occluded patch or region: the fill decides what an occlusion means.

On MRI zero imitates atrophy (it looks like cerebrospinal fluid), mean grey imitates healthy tissue.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

from pipeline.errors import MethodError

FILLS = ("grey", "patch_mean", "image_mean", "blur")
BLUR_SHARE = 16
"""Standard deviation of the blur: the shortest side of the image divided by this."""

Box = tuple[slice, ...]
Fill = Callable[[int, Box, torch.Tensor | None], torch.Tensor]
"""`fill(image, box, mask)` → replacement of shape (C, *box); `mask` (*box) marks the occluded part."""


def make_fill(images: torch.Tensor, fill: object) -> Fill:
    """Build the fill for a batch.

    Parameters
    ----------
    images : torch.Tensor, shape (N, C, *spatial)
    fill : number, "grey", "patch_mean", "image_mean", "blur" or tensor
        `grey`: middle between an image's minimum and maximum, per channel. `patch_mean`: mean of the occluded
        part, per channel. `image_mean`: mean of the image, per channel. `blur`: the image smoothed by a
        Gaussian of 1/16 of its shortest side. A tensor (cohort mean, donor case) broadcasts to the images.

    Raises
    ------
    pipeline.errors.MethodError
        If the fill is none of these.
    """
    if isinstance(fill, str) and fill == "patch_mean":
        return _PatchMean(images)
    whole = _whole(images, fill)
    return WholeFill(whole)


class WholeFill:
    """A fill that is cut from an image, the same for every occlusion.

    Parameters
    ----------
    whole : torch.Tensor, shape (N, C, *spatial)
    """

    def __init__(self, whole: torch.Tensor) -> None:
        self.whole = whole

    def __call__(self, image: int, box: Box, mask: torch.Tensor | None) -> torch.Tensor:  # noqa: ARG002
        """Cut the replacement."""
        return self.whole[image][(slice(None), *box)]


class _PatchMean:
    def __init__(self, images: torch.Tensor) -> None:
        self.images = images

    def __call__(self, image: int, box: Box, mask: torch.Tensor | None) -> torch.Tensor:
        part = self.images[image][(slice(None), *box)]
        mean = part.flatten(1).mean(1) if mask is None else part[:, mask].mean(1)
        return mean.reshape(-1, *[1] * (part.ndim - 1)).expand_as(part)


def _whole(images: torch.Tensor, fill: object) -> torch.Tensor:
    """Make the image that the fill is cut from."""
    axes = tuple(range(2, images.ndim))
    if isinstance(fill, torch.Tensor):
        return _given(images, fill)
    if isinstance(fill, int | float) and not isinstance(fill, bool) and abs(fill) < float("inf"):
        return images.new_full((), float(fill)).expand_as(images)
    if fill == "grey":
        return ((images.amin(axes, keepdim=True) + images.amax(axes, keepdim=True)) / 2).expand_as(images)
    if fill == "image_mean":
        return images.mean(axes, keepdim=True).expand_as(images)
    if fill == "blur":
        return blur(images, min(images.shape[2:]) / BLUR_SHARE)
    raise MethodError(f"fill {fill!r} is not known", f"give a number, a tensor or one of {', '.join(FILLS)}")


def _given(images: torch.Tensor, fill: torch.Tensor) -> torch.Tensor:
    fill = fill.detach().to(images)
    if not bool(torch.isfinite(fill).all()):
        raise MethodError("the fill contains NaN or infinity", "check the donor image")
    try:
        return fill.expand_as(images)
    except RuntimeError as error:
        raise MethodError(
            f"a fill of shape {tuple(fill.shape)} does not fit images of shape {tuple(images.shape)}",
            "give (C, *spatial) or (N, C, *spatial)",
        ) from error


def blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur along every spatial axis, edges repeated."""
    radius = max(1, round(3 * sigma))
    x = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (x / max(sigma, 1e-3)) ** 2)
    kernel = kernel / kernel.sum()
    for axis in range(2, images.ndim):
        moved = images.movedim(axis, -1)
        shape = moved.shape
        padded = functional.pad(moved.reshape(-1, 1, shape[-1]), (radius, radius), mode="replicate")
        images = functional.conv1d(padded, kernel[None, None]).reshape(shape).movedim(-1, axis)
    return images.contiguous()

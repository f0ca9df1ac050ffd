"""What an occlusion changed: boxes of values, everywhere else the untouched image's values hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.attribution.incremental.windows import Ints, box_of, ints


@dataclass(eq=False)
class Delta:
    """Changed values of several occlusions.

    Attributes
    ----------
    values : torch.Tensor, shape (occlusions, C, *size)
    starts : integer array, shape (occlusions, axes)
        Where each box begins; the box lies inside the activation.
    """

    values: torch.Tensor
    starts: Ints

    @property
    def size(self) -> Ints:
        """Spatial size of the boxes."""
        return ints(self.values.shape[2:])

    def one(self, item: int) -> Delta:
        """One occlusion alone."""
        return Delta(self.values[item : item + 1], self.starts[item : item + 1])


def memory_format(axes: int, dtype: torch.dtype) -> torch.memory_format:
    """Layout in which convolution and pooling are fastest: channels last, in single precision."""
    if dtype != torch.float32:
        return torch.contiguous_format
    formats: dict[int, torch.memory_format] = {2: torch.channels_last, 3: torch.channels_last_3d}
    return formats.get(axes, torch.contiguous_format)


def window(
    clean: torch.Tensor, delta: Delta | None, starts: Ints, size: Ints, border: float = 0.0
) -> torch.Tensor:
    """Cut boxes out of an activation in which each occlusion's changes are put.

    Parameters
    ----------
    clean : torch.Tensor, shape (1, C, *spatial)
        The untouched image's activation.
    delta : Delta or None
        What changed; None: nothing.
    starts : integer array, shape (occlusions, axes)
        Where the boxes begin; they may leave the activation.
    size : integer array, shape (axes,)
    border : float
        Value outside the activation.

    Returns
    -------
    torch.Tensor, shape (occlusions, C, *size)
    """
    limit = ints(clean.shape[2:])
    low, high = np.maximum(starts, 0), np.minimum(starts + size, limit)
    layout = memory_format(len(limit), clean.dtype)
    shape = (len(starts), clean.shape[1], *size.tolist())
    cut = torch.empty(shape, dtype=clean.dtype, device=clean.device, memory_format=layout)
    if (low != starts).any() or (high != starts + size).any():
        cut.fill_(border)
    _copy(clean, None, low, high, cut, starts)
    if delta is not None:
        low = np.maximum(low, delta.starts)
        high = np.minimum(high, delta.starts + delta.size)
        _copy(delta.values, delta.starts, low, high, cut, starts)
    return cut


def _copy(
    source: torch.Tensor,
    source_starts: Ints | None,
    low: Ints,
    high: Ints,
    target: torch.Tensor,
    target_starts: Ints,
) -> None:
    """Copy the boxes from `low` to `high`, one an occlusion, from `source` to `target`."""
    extent = high - low
    into = low - target_starts
    out_of = low if source_starts is None else low - source_starts
    for g in np.flatnonzero(extent.min(1) > 0).tolist():
        read = box_of(source, 0 if source_starts is None else g, out_of[g], extent[g])
        box_of(target, g, into[g], extent[g]).copy_(read)


def pasted(clean: torch.Tensor, delta: Delta) -> torch.Tensor:
    """Whole activations, one an occlusion, shape (occlusions, C, *spatial)."""
    limit = ints(clean.shape[2:])
    if (delta.size == limit).all():
        return delta.values
    return window(clean, delta, np.zeros_like(delta.starts), limit)


def stacked(deltas: Sequence[Delta], clean: torch.Tensor) -> Delta:
    """Put occlusions whose boxes differ into one: the smaller boxes grow by untouched values."""
    limit = ints(clean.shape[2:])
    size = np.maximum.reduce([d.size for d in deltas])
    layout = memory_format(len(limit), clean.dtype)
    if all((d.size == size).all() for d in deltas):
        if len(deltas) == 1:
            return deltas[0]
        values = torch.cat([d.values for d in deltas]).contiguous(memory_format=layout)
        return Delta(values, np.concatenate([d.starts for d in deltas]))
    starts = [np.minimum(d.starts, limit - size) for d in deltas]
    parts = [window(clean, d, a, size) for d, a in zip(deltas, starts, strict=True)]
    return Delta(torch.cat(parts).contiguous(memory_format=layout), np.concatenate(starts))


def same_boxes(deltas: Sequence[Delta]) -> bool:
    """Whether the boxes of several activations are the same."""
    first = deltas[0]
    return all((d.size == first.size).all() and (d.starts == first.starts).all() for d in deltas[1:])

"""What an occlusion changed: boxes of values, everywhere else the untouched image's values hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch

from pipeline.attribution.incremental.windows import Ints, ints


@dataclass(eq=False)
class Delta:
    """Changed values of several occlusions, in boxes of one size.

    Attributes
    ----------
    values : torch.Tensor, shape (occlusions, C, *size)
    starts : integer array, shape (occlusions, axes)
        Where each box begins; the box lies inside the activation.
    """

    values: torch.Tensor
    starts: Ints

    @cached_property
    def size(self) -> Ints:
        """Spatial size of the boxes."""
        return ints(self.values.shape[2:])

    def one(self, item: int) -> Delta:
        """One occlusion alone."""
        return Delta(self.values[item : item + 1], self.starts[item : item + 1])

    def even(self, clean: torch.Tensor | None) -> Delta:  # noqa: ARG002
        """Itself: the boxes are of one size."""
        return self

    def paste(self, target: torch.Tensor, starts: Ints, low: Ints, high: Ints) -> None:
        """Put what changed between `low` and `high` into boxes that begin at `starts`."""
        low, high = np.maximum(low, self.starts), np.minimum(high, self.starts + self.size)
        _copy(self.values, self.starts, low, high, target, starts)


@dataclass(eq=False)
class Gathered:
    """Occlusions whose boxes differ in size, on their way into one batch.

    Attributes
    ----------
    parts : sequence of Delta
        One occlusion each.
    """

    parts: Sequence[Delta]

    @cached_property
    def starts(self) -> Ints:
        """Where each box begins, shape (occlusions, axes)."""
        return np.concatenate([part.starts for part in self.parts])

    @cached_property
    def size(self) -> Ints:
        """Spatial size of each box, shape (occlusions, axes)."""
        return np.stack([part.size for part in self.parts])

    def even(self, clean: torch.Tensor | None) -> Delta:
        """Boxes of one size: the smaller ones grow by untouched values."""
        if self._even is None:
            assert clean is not None
            limit = ints(clean.shape[2:])
            size = self.size.max(0)
            starts = np.minimum(self.starts, limit - size)
            self._even = Delta(window(clean, self, starts, size), starts)
        return self._even

    _even: Delta | None = field(default=None, init=False, repr=False)

    def paste(self, target: torch.Tensor, starts: Ints, low: Ints, high: Ints) -> None:
        """Put what changed between `low` and `high` into boxes that begin at `starts`."""
        low, high = np.maximum(low, self.starts), np.minimum(high, self.starts + self.size)
        for g, part in enumerate(self.parts):
            one = slice(g, g + 1)
            _copy(part.values, part.starts, low[one], high[one], target[one], starts[one])


Change = Delta | Gathered


def memory_format(axes: int, dtype: torch.dtype) -> torch.memory_format:
    """Layout in which convolution and pooling are fastest: channels last, in single precision."""
    if dtype != torch.float32:
        return torch.contiguous_format
    formats: dict[int, torch.memory_format] = {2: torch.channels_last, 3: torch.channels_last_3d}
    return formats.get(axes, torch.contiguous_format)


def empty(like: torch.Tensor, items: int, channels: int, size: Ints) -> torch.Tensor:
    """Room for boxes of an activation of the type of `like`, shape (items, channels, *size)."""
    layout = memory_format(len(size), like.dtype)
    shape = (items, channels, *size.tolist())
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


def window(
    clean: torch.Tensor,
    delta: Change | None,
    starts: Ints,
    size: Ints,
    border: float = 0.0,
    into: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cut boxes out of an activation in which each occlusion's changes are put.

    Parameters
    ----------
    clean : torch.Tensor, shape (1, C, *spatial)
        The untouched image's activation.
    delta : Delta, Gathered or None
        What changed; None: nothing.
    starts : integer array, shape (occlusions, axes)
        Where the boxes begin; they may leave the activation.
    size : integer array, shape (axes,)
    border : float
        Value outside the activation.
    into : torch.Tensor, optional
        Where to put them: some channels of a larger window, say.

    Returns
    -------
    torch.Tensor, shape (occlusions, C, *size)
    """
    limit = ints(clean.shape[2:])
    low, high = np.maximum(starts, 0), np.minimum(starts + size, limit)
    cut = empty(clean, len(starts), clean.shape[1], size) if into is None else into
    if (low != starts).any() or (high != starts + size).any():
        cut.fill_(border)
    _copy(clean, None, low, high, cut, starts)
    if delta is not None:
        delta.paste(cut, starts, low, high)
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
    channels, apart, along = target.shape[1], source.stride(), target.stride()
    item = np.arange(len(low))
    into: Ints = int(target.storage_offset()) + item * along[0] + (low - target_starts) @ ints(along[2:])
    out_of = low if source_starts is None else low - source_starts
    read: Ints = int(source.storage_offset()) + out_of @ ints(apart[2:])
    if source_starts is not None:
        read += item * apart[0]
    sizes = (high - low).tolist()
    to, of = target.as_strided, source.as_strided
    for size, a, b in zip(sizes, into.tolist(), read.tolist(), strict=True):
        if min(size) > 0:
            box = (1, channels, *size)
            to(box, along, a).copy_(of(box, apart, b))


def pasted(clean: torch.Tensor, delta: Change) -> torch.Tensor:
    """Whole activations, one an occlusion, shape (occlusions, C, *spatial)."""
    limit = ints(clean.shape[2:])
    if (delta.size == limit).all():
        return delta.even(clean).values
    return window(clean, delta, np.zeros_like(delta.starts), limit)


def gathered(deltas: Sequence[Delta]) -> Change:
    """Several occlusions together."""
    return deltas[0] if len(deltas) == 1 else Gathered(deltas)


def same_boxes(deltas: Sequence[Delta]) -> bool:
    """Whether the boxes of several activations are the same."""
    first = deltas[0]
    return all((d.size == first.size).all() and (d.starts == first.starts).all() for d in deltas[1:])

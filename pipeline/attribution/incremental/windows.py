"""Which outputs a change can reach and which inputs an output needs: integer arithmetic of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Ints = npt.NDArray[np.int64]
"""Starts of boxes, shape (boxes, axes), or sizes, shape (axes,)."""


def ints(values: Sequence[int] | Ints) -> Ints:
    """Integers as an array."""
    return np.asarray(values, dtype=np.int64)


def per_axis(values: Any, axes: int) -> Ints:
    """Kernel sizes, strides and the like: one number for all axes, or one an axis."""
    given = ints(list(values) if isinstance(values, list | tuple) else [values])
    return np.broadcast_to(given, (axes,)) if len(given) == 1 else given


@dataclass(frozen=True, eq=False)
class Window:
    """How an operation looks at its input: output o reads the inputs from o·stride − before on, extent many.

    Attributes
    ----------
    extent, stride, before : integer arrays, shape (axes,)
    """

    extent: Ints
    stride: Ints
    before: Ints

    @property
    def trivial(self) -> bool:
        """Whether each output reads just the input at its own place."""
        return bool((self.extent == 1).all() and (self.stride == 1).all() and (self.before == 0).all())

    def needs(self, start: Ints, size: Ints) -> tuple[Ints, Ints]:
        """Input box that an output box needs; it may leave the image."""
        return start * self.stride - self.before, (size - 1) * self.stride + self.extent

    def reaches(self, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """Output boxes that changes from `low` to `high` (exclusive), shape (boxes, axes), can reach."""
        first = -((self.extent - 1 - low - self.before) // self.stride)
        return first, (high - 1 + self.before) // self.stride + 1

    def then(self, after: Window) -> Window:
        """Compose: this window, and `after` on its result."""
        return Window(
            self.extent + (after.extent - 1) * self.stride,
            self.stride * after.stride,
            self.before + after.before * self.stride,
        )


@dataclass(frozen=True, eq=False)
class Spread(Window):
    """The window of a transposed convolution: input i reaches the outputs from i·stride − before on."""

    @property
    def trivial(self) -> bool:
        """Never: even with stride 1 its window is mirrored."""
        return False

    def needs(self, start: Ints, size: Ints) -> tuple[Ints, Ints]:
        """Input box that an output box needs, of one size whatever the remainder of `start`."""
        first = -((self.extent - 1 - start - self.before) // self.stride)
        return first, (size + self.extent + self.stride - 3) // self.stride + 2

    def reaches(self, low: Ints, high: Ints) -> tuple[Ints, Ints]:
        """Output boxes that changes from `low` to `high` can reach."""
        return low * self.stride - self.before, (high - 1) * self.stride - self.before + self.extent

    def then(self, after: Window) -> Window:
        """Not composable with what follows."""
        raise NotImplementedError


def clipped(low: Ints, high: Ints, limit: Ints) -> tuple[Ints, Ints]:
    """Boxes from `low` to `high`, inside an activation of shape `limit`, at least one wide."""
    low = np.clip(low, 0, limit - 1)
    return low, np.clip(high, low + 1, limit)


def alike(low: Ints, high: Ints, limit: Ints) -> tuple[Ints, Ints]:
    """Boxes of one size around the boxes from `low` to `high`: starts (boxes, axes) and size (axes,)."""
    size = (high - low).max(0)
    return np.minimum(low, limit - size), size


def box_of(tensor: torch.Tensor, item: int, start: Ints, size: Ints) -> torch.Tensor:
    """View of one item's box, shape (1, C, *size)."""
    strides = tensor.stride()
    offset = tensor.storage_offset() + item * strides[0]
    for first, stride in zip(start.tolist(), strides[2:], strict=True):
        offset += first * stride
    return tensor.as_strided((1, tensor.shape[1], *size.tolist()), strides, offset)

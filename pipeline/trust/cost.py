"""What a map costs: arithmetic in units of the model's forward pass, and time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def operations(compute: Callable[[], T]) -> tuple[T, int]:
    """Run something and count the arithmetic of its convolutions and matrix products.

    Parameters
    ----------
    compute : callable

    Returns
    -------
    result
        What `compute` returned.
    int
        Floating-point operations (PyTorch's own counter; two a multiply-add), however many images or parts
        of images they were spent on. Element-wise work is not counted.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

    def onednn(x: Any, w: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
        return int(conv_flop_count(list(x), list(w), list(out_shape), transposed=False))

    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.mkldnn_convolution: onednn})
    with counter:
        result = compute()
    return result, int(counter.get_total_flops())


def timed(compute: Callable[[], T]) -> tuple[T, float]:
    """Run something and take its wall time in seconds."""
    begin = time.perf_counter()
    result = compute()
    return result, time.perf_counter() - begin

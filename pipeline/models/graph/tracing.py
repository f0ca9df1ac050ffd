"""Trace a model into ATen operations without computing anything, and make the result batch-agnostic.

The model is traced twice with fake tensors, for two and for three images. An integer that differs between
the two traces grows with the batch; anything else that differs means that images of a batch are not treated
alike, which is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx

from pipeline.errors import ModelError
from pipeline.models.graph.operation import Batch, Ref
from pipeline.models.graph.quiet import quiet, reason

FEW, MORE = 2, 3
_STACKS: dict[str, Any] = (
    {"record_stack_traces": True} if "record_stack_traces" in inspect.signature(make_fx).parameters else {}
)


def trace(model: nn.Module, example: torch.Tensor, images: int) -> fx.GraphModule:
    """Operations of `model` for a batch of `images` shaped like those of `example`.

    Raises
    ------
    pipeline.errors.ModelError
        If the model does something that cannot be traced or does not accept such images.
    """

    def forward(batch: torch.Tensor) -> Any:
        return model(batch)

    batch = torch.empty((images, *example.shape[1:]), dtype=example.dtype, device=example.device)
    with quiet(model, restore_attributes=True), torch.autocast(example.device.type, enabled=False):
        try:
            functional: Callable[..., Any] = functionalize(forward)
            return make_fx(functional, tracing_mode="fake", _allow_non_fake_inputs=True, **_STACKS)(batch)
        except Exception as error:
            shape = tuple(example.shape[1:])
            raise ModelError(
                f"the model cannot be captured for images of shape {shape}: {reason(error)}",
                "check that images have the shape the model expects; a model whose computation depends on"
                " values of the image can be explained by occlusion and region_occlusion only",
            ) from error


def merge(few: Any, more: Any) -> Any:
    """Arguments of one operation in both traces → one batch-agnostic argument.

    Raises
    ------
    ValueError
        If they differ by anything but the batch.
    """
    if isinstance(few, fx.Node):
        return Ref(few.name)
    if isinstance(few, list | tuple):
        if len(few) != len(more):
            raise ValueError("lengths differ")
        return [merge(a, b) for a, b in zip(few, more, strict=True)]
    same: bool = (few is more) or (type(few) is type(more) and few == more)
    if same:
        return few
    if type(few) is int and type(more) is int and few % FEW == 0 and few // FEW * MORE == more:
        return Batch(few // FEW)
    if isinstance(few, float) and isinstance(more, float) and few != few and more != more:
        return few
    raise ValueError(f"{few} and {more}")


def place(node: fx.Node, owner: str) -> str:
    """Where an operation stands: `layer1.0.conv2, net.py:120` as far as known."""
    lines = str(node.meta.get("stack_trace") or "").splitlines()
    source = ""
    for line in lines:
        text = line.strip()
        if text.startswith('File "') and "/torch/" not in text and __file__ not in text:
            file, _, rest = text[6:].partition('", line ')
            source = f"{file.rsplit('/', 1)[-1]}:{rest.split(',', 1)[0]}"
    return ", ".join(part for part in (owner, source) if part)

"""A model as in evaluation mode for a moment, and exactly as it was afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn


@contextmanager
def quiet(model: nn.Module, *, restore_attributes: bool = False) -> Iterator[None]:
    """Put `model` in evaluation mode without gradients; put everything back, also after an error.

    Parameters
    ----------
    model : torch.nn.Module
        Eager or TorchScript module. Its training flags are set one by one, so that an overridden
        `train()` is not called.
    restore_attributes : bool
        Also put back every attribute, parameter and buffer slot that the forward pass re-assigned, and
        every buffer that it changed in place (used while tracing, when an attribute would keep a fake tensor
        and a model traced in training mode still counts its batches).
    """
    flags = [(m, m.training) for m in model.modules() if isinstance(getattr(m, "training", None), bool)]
    memory = _memory(model) if restore_attributes else []
    buffers = [(b, b.detach().clone(), b._version) for b in model.buffers()] if restore_attributes else []  # noqa: SLF001
    devices = sorted({t.device.index or 0 for t in model.parameters() if t.device.type == "cuda"})
    try:
        for module, was in flags:
            if was:
                module.training = False
        with torch.random.fork_rng(devices=devices), torch.inference_mode(mode=False), torch.no_grad():
            yield
    finally:
        for buffer, value, version in buffers:
            if buffer._version != version:  # noqa: SLF001
                with torch.no_grad():
                    buffer.copy_(value)
        for slots, before in memory:
            if any(slots.get(k, slots) is not v for k, v in before.items()) or len(slots) != len(before):
                slots.clear()
                slots.update(before)
        for module, was in flags:
            if module.training is not was:
                module.training = was


def reason(error: BaseException) -> str:
    """One line that says why a model failed: the last of a TorchScript error, the first of any other."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1 if "TorchScript interpreter" in lines[0] else 0][:200]


def _memory(model: nn.Module) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    memory: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        slots = vars(module)
        with suppress(KeyError):
            memory += [(slots[name], dict(slots[name])) for name in ("_parameters", "_buffers", "_modules")]
        memory.append((slots, dict(slots)))
    return memory

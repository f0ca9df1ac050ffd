"""Guided backpropagation: only positive gradients pass, and only where a rectifier was active."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from pipeline.attribution.gradient import by_colour, score_gradients
from pipeline.attribution.question import Answer, Question
from pipeline.attribution.registry import method
from pipeline.errors import MethodError
from pipeline.models.graph.kinds import RECTIFIERS
from pipeline.models.graph.operation import Operation

SMOOTH_RECTIFIERS = frozenset(
    {"silu", "gelu", "hardswish", "softplus", "mish", "elu", "celu", "leaky_relu", "_prelu_kernel", "prelu"}
)
"""Activations that open with their input, as a ReLU does; sigmoid and tanh do not."""


@method(
    "guided_backprop",
    family="backpropagation",
    signed=True,
    class_discriminative=False,
    needs="rectifiers (ReLU and its kin) in the model",
    cost="1 forward + 1 backward (about 3)",
    source="Springenberg et al. 2015, arXiv:1412.6806",
    odd=False,
)
def guided_backprop(question: Question, *, colour: str = "signed") -> Answer:
    """Gradient that passes a ReLU only where its input and the arriving gradient are positive.

    ReLU6 and other clamps: likewise inside their linear range. SiLU, GELU and other smooth rectifiers (an
    extension): positive gradient passes, times their own slope, where their output is positive.
    """
    found = question.once("guided", lambda: guided_gradients(question))
    return Answer(by_colour(found[question.round], colour), question.logits)


def guided_gradients(question: Question) -> list[torch.Tensor]:
    """Guided gradients of each image's explained score, one tensor a round.

    Raises
    ------
    pipeline.errors.MethodError
        If the model has no rectifier: the result would be the plain gradient under another name.
    """
    kinds = RECTIFIERS | SMOOTH_RECTIFIERS
    if not any(op.kind in kinds and op.dynamic for op in question.graph.operations):
        raise MethodError("guided backprop met no rectifier in the model", "use gradient")
    return score_gradients(question, question.images, instead=dict.fromkeys(kinds, _guided))


def _guided(op: Operation, values: Mapping[str, torch.Tensor], images: int) -> torch.Tensor:
    """Compute a rectifier so that its gradient is the guided one."""
    source = next(name for name in op.inputs if values[name].requires_grad)

    def plain(x: torch.Tensor) -> torch.Tensor:
        return op.compute({**values, source: x}, images)  # type: ignore[no-any-return]

    if op.kind == "relu":
        fast: Any = _GuidedReLU
        return fast.apply(values[source], plain)  # type: ignore[no-any-return]
    if op.kind == "silu":
        smooth: Any = _GuidedSiLU
        return smooth.apply(values[source])  # type: ignore[no-any-return]
    function: Any = _Guided
    return function.apply(values[source], plain, op.kind in RECTIFIERS)  # type: ignore[no-any-return]


class _GuidedReLU(torch.autograd.Function):
    """ReLU is open where its result is positive: nothing but the result has to be kept."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, plain: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        result = plain(x)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, arrived: torch.Tensor) -> tuple[torch.Tensor, None]:
        (result,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(arrived, result, 0).relu_(), None


class _GuidedSiLU(torch.autograd.Function):
    """SiLU is positive where its input is, and its own slope there is known: no second forward pass."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return torch.nn.functional.silu(x)

    @staticmethod
    def backward(ctx: Any, arrived: torch.Tensor) -> tuple[torch.Tensor, None]:
        (x,) = ctx.saved_tensors
        passed = torch.ops.aten.silu_backward(arrived, x)
        return torch.ops.aten.threshold_backward(passed, x, 0).relu_(), None


class _Guided(torch.autograd.Function):
    """Any other rectifier: its own gradient of the positive part of what arrives, where it is open."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, plain: Callable[[torch.Tensor], torch.Tensor], rectifier: bool
    ) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.plain, ctx.rectifier = plain, rectifier
        return plain(x)

    @staticmethod
    def backward(ctx: Any, arrived: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            point = x.detach().requires_grad_(True)  # noqa: FBT003
            result = ctx.plain(point)
            (passed,) = torch.autograd.grad(result, point, arrived.clamp(min=0))
        active = x > 0 if ctx.rectifier else result.detach() > 0
        return torch.where(active, passed, 0), None, None

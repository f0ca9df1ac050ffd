"""Class activation maps: the last spatial activation, weighted for a class."""

from __future__ import annotations

from math import prod

import torch
from torch.nn import functional

from pipeline.attribution.question import Answer, Question
from pipeline.attribution.registry import choice, method
from pipeline.errors import MethodError


@method(
    "grad_cam",
    family="activation",
    signed=True,
    class_discriminative=True,
    needs="a spatial activation larger than 1×1 before the classifier",
    cost="1 forward + the backward of the head (about 1)",
    source="Selvaraju et al. 2017, arXiv:1610.02391",
)
def grad_cam(question: Question, *, relu: bool = False) -> Answer:
    """Σ_k α_k A_k with α_k the spatial mean of ∂y_t/∂A_k, upsampled linearly to the image."""
    choice("relu", relu, (True, False))
    activation, slope, logits = activation_and_gradient(question)
    alpha = slope.mean(tuple(range(2, slope.ndim)), keepdim=True)
    coarse = (alpha * activation).sum(1, keepdim=True)
    if relu:
        coarse = coarse.clamp(min=0)
    return Answer(upsample(coarse, question.images.shape[2:]), logits, details=_details(question))


def activation_and_gradient(question: Question) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Last spatial activation A, ∂y_t/∂A (both (N, K, *grid)) and logits; only the head is differentiated.

    Raises
    ------
    pipeline.errors.MethodError
        If there is no such activation or its map is 1×1.
    """
    graph, marks = question.graph, question.graph.landmarks
    if marks.activation is None:
        raise MethodError("the model has no spatial activation", "use gradient, lrp or occlusion")
    if prod(marks.grid) == 1:
        raise MethodError(
            f"the last spatial activation is a map of {'×'.join(map(str, marks.grid))}",
            "use lrp or occlusion, or give larger images",
        )
    with torch.inference_mode(mode=False):
        with torch.no_grad():
            below = graph.run(question.images, keep=[marks.activation], stop=True)[marks.activation]
        with torch.enable_grad():
            point = below.detach().requires_grad_(True)  # noqa: FBT003
            logits = graph.run({marks.activation: point})[graph.output]
            slope = torch.autograd.grad(question.explained(logits).sum(), point)[0]
    return below, slope, logits.detach()


def upsample(coarse: torch.Tensor, spatial: tuple[int, ...]) -> torch.Tensor:
    """Bring a coarse map on the image's grid, linearly, pixel centres aligned."""
    mode = "bilinear" if len(spatial) == 2 else "trilinear"
    return functional.interpolate(coarse, size=tuple(spatial), mode=mode, align_corners=False)


def _details(question: Question) -> dict[str, object]:
    marks = question.graph.landmarks
    name = marks.activation or ""
    return {
        "layer": str(question.graph.makers[name]) if name in question.graph.makers else name,
        "grid": marks.grid,
        "upsampling": "linear, pixel centres aligned",
    }

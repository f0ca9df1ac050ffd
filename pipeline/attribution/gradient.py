"""Gradient of the score with respect to the image, through the captured graph.

The gradient is that of the computed function: where model code detaches a path (MONAI's ResNet with
shortcut A), it is still right.
"""

from __future__ import annotations

import torch

from pipeline.attribution.question import Answer, Question
from pipeline.attribution.registry import choice, method

COLOUR = ("signed", "sum", "max_abs", "sum_abs")


def score_gradient(question: Question, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradient of each image's explained score, and the logits.

    Parameters
    ----------
    question : Question
    images : torch.Tensor, shape (N, C, *spatial)
        Where to take it (the question's own images, or points on the way to them).
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        point = images.detach().clone().requires_grad_(True)  # noqa: FBT003
        logits = question.graph.run(point)[question.graph.output]
        total = question.explained(logits).sum()
        return torch.autograd.grad(total, point)[0], logits.detach()


def by_colour(values: torch.Tensor, colour: str) -> torch.Tensor:
    """Colour channels on one: kept signed, summed, or the maximum or sum of absolute values."""
    choice("colour", colour, COLOUR)
    if colour == "sum":
        return values.sum(1, keepdim=True)
    if colour == "max_abs":
        return values.abs().amax(1, keepdim=True)
    if colour == "sum_abs":
        return values.abs().sum(1, keepdim=True)
    return values


@method(
    "gradient",
    family="backpropagation",
    signed=True,
    class_discriminative=False,
    needs="a model that can be captured",
    cost="1 forward + 1 backward (about 3)",
    source="Simonyan et al. 2013, arXiv:1312.6034",
)
def gradient(question: Question, *, colour: str = "signed") -> Answer:
    """∂y_t/∂x: how the score changes with each pixel's value."""
    values, logits = score_gradient(question, question.images)
    return Answer(by_colour(values, colour), logits)

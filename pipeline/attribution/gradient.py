"""The gradient of the score with respect to the image, and what is built on it.

Gradients are taken through the captured graph, so they are those of the computed function: where model code
detaches a path (MONAI's ResNet with shortcut A), they are still right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from pipeline.attribution.fills import make_fill
from pipeline.attribution.question import Answer, Question
from pipeline.attribution.registry import choice, method, number
from pipeline.errors import MethodError
from pipeline.models.graph.captured import Compute
from pipeline.models.graph.layout import fast_layout

COLOUR = ("signed", "sum", "max_abs", "sum_abs")


def score_gradients(
    question: Question, images: torch.Tensor, instead: Mapping[str, Compute] | None = None
) -> list[torch.Tensor]:
    """Gradients of each image's explained score, one tensor a round, from one forward pass.

    Parameters
    ----------
    question : Question
    images : torch.Tensor, shape (N, C, *spatial)
        Where to take it (the question's own images, or points on the way to them).
    instead : mapping of kind to function, optional
        Operations to compute in another way (see `CapturedGraph.run`).
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        point = fast_layout(images.detach().clone()).requires_grad_(True)  # noqa: FBT003
        logits = question.graph.run(point, fold=True, instead=instead)[question.graph.output]
        if images is question.images:
            question.passed(logits)
        return [slope.contiguous() for slope in slopes(question, logits, point)]


def slopes(question: Question, logits: torch.Tensor, point: torch.Tensor) -> list[torch.Tensor]:
    """Gradients of each image's explained score with respect to `point`, one tensor a round.

    The tape is freed after the last.
    """
    every = question.all_targets
    return [
        torch.autograd.grad(
            question.explained(logits, targets).sum(), point, retain_graph=k + 1 < len(every)
        )[0]
        for k, targets in enumerate(every)
    ]


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
    return Answer(by_colour(_own_gradient(question), colour), question.logits)


@method(
    "input_x_gradient",
    family="backpropagation",
    signed=True,
    class_discriminative=False,
    needs="a model that can be captured; the map depends on the black level",
    cost="1 forward + 1 backward (about 3)",
    source="Shrikumar et al. 2016, arXiv:1605.01713",
)
def input_x_gradient(question: Question, *, colour: str = "signed") -> Answer:
    """Take x · ∂y_t/∂x: the share of each pixel in the linearised score."""
    return Answer(by_colour(_own_gradient(question) * question.images, colour), question.logits)


def _own_gradient(question: Question) -> torch.Tensor:
    found = question.once("gradient", lambda: score_gradients(question, question.images))
    return found[question.round]


@method(
    "integrated_gradients",
    family="backpropagation",
    signed=True,
    class_discriminative=True,
    needs="a model that can be captured, and a baseline image",
    cost="steps × (1 forward + 1 backward)",
    source="Sundararajan et al. 2017, arXiv:1703.01365",
)
def integrated_gradients(
    question: Question, *, baseline: object = 0.0, steps: int = 32, colour: str = "signed"
) -> Answer:
    """(x − x₀) · mean gradient on the way from the baseline x₀ to x, at the middle of `steps` equal steps.

    `baseline` is a fill: a number, `"grey"`, `"image_mean"`, `"blur"` or a tensor. `details["gap"]` says, one
    an image, how far the sum of the map is from y_t(x) − y_t(x₀): more steps close it.
    """
    choice("colour", colour, COLOUR)
    count = _count("steps", steps)
    images = question.images
    if baseline == "patch_mean":
        raise MethodError("a baseline cannot be 'patch_mean'", "use 'image_mean'")
    fill, whole = make_fill(images, baseline), tuple(slice(0, s) for s in images.shape[2:])
    start = torch.stack([fill(i, whole, None) for i in range(len(images))])
    points = (start + (k + 0.5) / count * (images - start) for k in range(count))
    total = question.once("gradients", lambda: _summed(question, points))[question.round]
    values = (images - start) * total / count
    below = question.once("baseline", lambda: question.forward(start))
    gap = values.flatten(1).sum(1) - (question.explained(question.logits) - question.explained(below))
    return Answer(by_colour(values, colour), question.logits, each={"gap": gap.tolist()})


@method(
    "smooth_grad",
    family="backpropagation",
    signed=True,
    class_discriminative=False,
    needs="a model that can be captured",
    cost="samples × (1 forward + 1 backward)",
    source="Smilkov et al. 2017, arXiv:1706.03825",
)
def smooth_grad(
    question: Question, *, noise: float = 0.15, samples: int = 16, seed: int = 0, colour: str = "signed"
) -> Answer:
    """Mean gradient over copies of the image with Gaussian noise, `noise` times the image's range strong."""
    choice("colour", colour, COLOUR)
    level, count = number("noise", noise, low=0, above=True), _count("samples", samples)
    images, axes = question.images, tuple(range(1, question.images.ndim))
    spread = level * (images.amax(axes, keepdim=True) - images.amin(axes, keepdim=True))
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise MethodError(f"option seed={seed!r} is not a seed", "give a whole number from 0")
    generator = torch.Generator().manual_seed(seed)
    shape = (1, *images.shape[1:])  # the same noise for every image: a batch equals its images one by one
    noisy = (
        images + spread * torch.randn(shape, generator=generator, dtype=torch.float64).to(images)
        for _ in range(count)
    )
    total = question.once("gradients", lambda: _summed(question, noisy))[question.round]
    return Answer(by_colour(total / count, colour), question.logits)


def _summed(question: Question, points: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Sum of the gradients at some points, one tensor a round."""
    total = [torch.zeros_like(question.images) for _ in question.all_targets]
    for point in points:
        for own, more in zip(total, score_gradients(question, point), strict=True):
            own += more
    return total


def _count(option: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise MethodError(f"option {option}={value!r} is not a positive integer", "give 1 or more")
    return value

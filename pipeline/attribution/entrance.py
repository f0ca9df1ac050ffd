"""The one entrance to every method."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from pipeline.attribution.labels import present_labels
from pipeline.attribution.question import Answer, Question, resolve_targets
from pipeline.attribution.registry import card_of, check_options, choice
from pipeline.attribution.relevance import Relevance
from pipeline.errors import MethodError, ModelError


def attribute(
    model: nn.Module,
    images: torch.Tensor,
    target: object,
    method: str = "lrp",
    regions: Any = None,
    *,
    output: str = "logit",
    **options: Any,
) -> Relevance:
    """Explain the score of a class.

    Parameters
    ----------
    model : torch.nn.Module
        Any CNN, TorchScript included, 2D or 3D. Computed as in evaluation mode, in its own type, on its own
        device, and left exactly as it was. A final softmax or sigmoid is stripped.
    images : torch.Tensor of float, shape (N, C, *spatial)
    target : int, one int per image, or "top-3"
        Class index. A single-logit model has two classes: 1 is the logit, 0 its negative. `"top-3"` gives
        three maps an image, likeliest class first.
    method : str
        A name of `METHODS`.
    regions : integer tensor or array, shape (*spatial) or (N, *spatial), optional
        Labels, 0 = none. `region_occlusion` needs them; other methods sum their relevance in each.
    output : {"logit", "probability"}
        Which score is explained.
    **options
        See `METHODS[method].options`.

    Returns
    -------
    Relevance
        Maps (positive speaks for the target), scores, and what the method measured of itself.

    Raises
    ------
    pipeline.errors.AuditError
        A kind of it for everything refused: unknown method, option or target, images or regions of the
        wrong shape, a model that cannot be captured, an operation without a rule.
    """
    card = card_of(method)
    choice("output", output, ("logit", "probability"))
    settings = check_options(card, options)
    _check_images(images)
    batch = _as_model_wants(model, images)
    labels = _check_regions(regions, batch)
    first = Question(
        model, batch, torch.zeros(len(batch), dtype=torch.int64, device=batch.device), labels, output
    )
    if isinstance(target, str):
        which, targets = resolve_targets(target, first.scores(first.forward(batch)))
    else:
        classes = _classes(first)
        which, targets = resolve_targets(target, batch.new_zeros(len(batch), classes))
    alike = len(which) == len(batch)
    question = Question(
        model,
        batch if alike else batch[which],
        targets,
        labels if labels is None or alike else labels[which],
        output,
    )
    first.hand_over(question)
    answer: Answer = card.compute(question, **settings)
    values = answer.values.detach().to(device=images.device, dtype=images.dtype)
    region_scores, present = _region_scores(answer, values, question.regions)
    return Relevance(
        values=values,
        scores=question.scores(answer.logits.detach()).to(images.device, images.dtype),
        method=method,
        target=tuple(int(t) for t in targets),
        options=MappingProxyType({"output": output, **settings}),
        region_scores=region_scores,
        region_labels=present,
        conservation_error=answer.conservation_error,
        bias_share=answer.bias_share,
        details=MappingProxyType(dict(answer.details)),
    )


def logits(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Scores of every class before the final softmax or sigmoid, as `attribute` explains them.

    Parameters
    ----------
    model : torch.nn.Module
    images : torch.Tensor of float, shape (N, C, *spatial)

    Returns
    -------
    torch.Tensor, shape (N, classes)
        In the images' type; (0, z) for a single-logit model.

    Raises
    ------
    pipeline.errors.AuditError
        If the images do not fit the model.
    """
    _check_images(images)
    batch = _as_model_wants(model, images)
    question = Question(
        model, batch, torch.zeros(len(batch), dtype=torch.int64, device=batch.device), None, "logit"
    )
    return question.scores(question.forward(batch)).detach().to(images.device, images.dtype)


def _check_images(images: object) -> None:
    if not isinstance(images, torch.Tensor) or not images.is_floating_point() or images.ndim not in {4, 5}:
        what = (
            f"{images.dtype} of shape {tuple(images.shape)}"
            if isinstance(images, torch.Tensor)
            else type(images).__name__
        )
        raise MethodError(
            f"images are {what}", "give a float tensor of shape (N, C, H, W) or (N, C, X, Y, Z)"
        )
    if images.numel() == 0:
        raise MethodError(f"images of shape {tuple(images.shape)} are empty", "give at least one image")
    if not bool(torch.isfinite(images).all()):
        raise MethodError("images contain NaN or infinity", "check the image before it is explained")


def _as_model_wants(model: object, images: torch.Tensor) -> torch.Tensor:
    if not isinstance(model, nn.Module):
        raise ModelError(f"a model must be a torch.nn.Module, not {type(model).__name__}", "open it first")
    own = next((p for p in (*model.parameters(), *model.buffers()) if p.is_floating_point()), None)
    return images.detach() if own is None else images.detach().to(device=own.device, dtype=own.dtype)


def _classes(question: Question) -> int:
    """Count the classes, without a forward pass where the model can be captured."""
    if question.capturable:
        return max(question.graph.classes, 2)
    return max(question.forward(question.images[:1]).shape[1], 2)


def _check_regions(regions: Any, images: torch.Tensor) -> torch.Tensor | None:
    if regions is None:
        return None
    try:
        labels = torch.as_tensor(regions, device=images.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise MethodError("regions are not an array of integer labels", "give integers, 0 = none") from error
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise MethodError(f"regions are {labels.dtype}", "give integer labels, 0 = none")
    spatial = images.shape[2:]
    if labels.shape not in {spatial, (len(images), *spatial)}:
        raise MethodError(
            f"regions of shape {tuple(labels.shape)} do not fit images of spatial shape {tuple(spatial)}",
            "resample them to the model's grid (nearest neighbour)",
        )
    labels = labels.long().expand(len(images), *spatial)
    if not bool((labels > 0).any()):
        raise MethodError("regions hold no label above 0", "give at least one region")
    return labels


def _region_scores(
    answer: Answer, values: torch.Tensor, regions: torch.Tensor | None
) -> tuple[torch.Tensor | None, tuple[int, ...]]:
    if regions is None:
        return None, ()
    present = present_labels(regions)
    if answer.region_scores is not None:
        return answer.region_scores.detach().to(values), present
    labels = regions.to(values.device)
    index = torch.bucketize(labels.clamp(min=0), torch.tensor([0, *present], device=values.device))
    index[labels <= 0] = 0
    flat = values.sum(1).flatten(1)
    total = flat.new_zeros(len(flat), len(present) + 1).scatter_add_(1, index.flatten(1), flat)
    count = flat.new_zeros(total.shape).scatter_add_(1, index.flatten(1), torch.ones_like(flat))
    return torch.where(count > 0, total, torch.nan)[:, 1:], present

"""The one entrance to every method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from pipeline.attribution.question import Answer, Question, check_target
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
    target : int, one int per image, one list of ints per image, or "top-3"
        Class index. A single-logit model has two classes: 1 is the logit, 0 its negative. A list, and
        `"top-3"`, give several maps an image in a row, `"top-3"` the likeliest class first; what does not
        depend on the class is computed once for all of them, the forward pass too wherever a method has one.
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
    question = Question(model, batch, 1, labels, output)
    wanted = check_target(target, len(batch), _classes(question))
    asked = replace(question, wanted=wanted if isinstance(wanted, int) else wanted.to(batch.device))
    rounds = wanted if isinstance(wanted, int) else wanted.shape[1]
    answers: list[Answer] = [card.compute(asked.again(k), **settings) for k in range(rounds)]
    values = _in_turn([answer.values.detach() for answer in answers])
    values = values.to(device=images.device, dtype=images.dtype)
    given = labels if labels is None or rounds == 1 else labels.repeat_interleave(rounds, 0)
    region_scores, present = _region_scores(
        _in_turn([answer.region_scores for answer in answers]), values, given, asked.present
    )
    scores = asked.scores(_in_turn([answer.logits.detach() for answer in answers]))
    details = {name: _in_turn([answer.each[name] for answer in answers]) for name in answers[0].each}
    return Relevance(
        values=values,
        scores=scores.to(images.device, images.dtype),
        method=method,
        target=tuple(_in_turn([targets.tolist() for targets in asked.all_targets])),
        options=MappingProxyType({"output": output, **settings}),
        region_scores=region_scores,
        region_labels=present,
        conservation_error=_in_turn([answer.conservation_error for answer in answers]),
        bias_share=_in_turn([answer.bias_share for answer in answers]),
        details=MappingProxyType({**answers[0].details, **details}),
    )


def _in_turn(rounds: Sequence[Any]) -> Any:
    """Put the maps of one image side by side: the first of every round, and so on."""
    if len(rounds) == 1 or rounds[0] is None:
        return rounds[0]
    if isinstance(rounds[0], torch.Tensor):
        return torch.stack(list(rounds), 1).flatten(0, 1)
    return [one for image in zip(*rounds, strict=True) for one in image]


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
    question = Question(model, batch, 1)
    return question.scores(question.logits).detach().to(images.device, images.dtype)


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
    return max(question.logits.shape[1], 2)


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
    own: torch.Tensor | None, values: torch.Tensor, regions: torch.Tensor | None, present: tuple[int, ...]
) -> tuple[torch.Tensor | None, tuple[int, ...]]:
    """Scores of the regions: the method's own, or the sum of the map in each."""
    if regions is None:
        return None, ()
    if own is not None:
        return own.detach().to(values), present
    labels = regions.to(values.device)
    index = torch.bucketize(labels.clamp(min=0), torch.tensor([0, *present], device=values.device))
    index[labels <= 0] = 0
    flat = values.sum(1).flatten(1)
    total = flat.new_zeros(len(flat), len(present) + 1).scatter_add_(1, index.flatten(1), flat)
    count = flat.new_zeros(total.shape).scatter_add_(1, index.flatten(1), torch.ones_like(flat))
    return torch.where(count > 0, total, torch.nan)[:, 1:], present

"""What a method is asked (model, images, target) and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from pipeline.errors import MethodError, ModelError
from pipeline.models.graph.captured import CapturedGraph, capture
from pipeline.models.graph.quiet import quiet, reason


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method computed; `attribute` makes a `Relevance` of it.

    Attributes
    ----------
    values : torch.Tensor, shape (N, 1 or C, *spatial)
    logits : torch.Tensor, shape (N, model outputs)
        As the model gave them for the images.
    region_scores, conservation_error, bias_share, details
        As in `Relevance`.
    """

    values: torch.Tensor
    logits: torch.Tensor
    region_scores: torch.Tensor | None = None
    conservation_error: torch.Tensor | None = None
    bias_share: torch.Tensor | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Question:
    """One question: why does `model` give `images` their `target` scores.

    Attributes
    ----------
    model : torch.nn.Module
    images : torch.Tensor, shape (N, C, *spatial)
        In the model's type, on its device.
    targets : torch.Tensor of int64, shape (N,)
        One class an image, checked.
    regions : torch.Tensor of int64 or None, shape (N, *spatial)
        Labels, 0 = none.
    output : {"logit", "probability"}
        Which score is explained.
    """

    model: nn.Module
    images: torch.Tensor
    targets: torch.Tensor
    regions: torch.Tensor | None = None
    output: str = "logit"

    @cached_property
    def graph(self) -> CapturedGraph:
        """The captured graph of the model for these images."""
        return capture(self.model, self.images)

    @cached_property
    def capturable(self) -> bool:
        """Whether the model can be captured (else only plain forward passes are possible)."""
        try:
            return self.graph is not None
        except ModelError:
            return False

    def hand_over(self, other: Question) -> None:
        """Spare another question about the same model a capture of its own (the batch size is free)."""
        known: dict[str, Any] = {
            name: vars(self)[name] for name in ("graph", "capturable") if name in vars(self)
        }
        vars(other).update(known)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of any images, shape (n, model outputs), without gradients."""
        if self.capturable:
            return self.graph.logits(images)
        with quiet(self.model), torch.inference_mode():
            try:
                result = self.model(images)
            except Exception as error:
                raise ModelError(
                    f"the model fails on images of shape {tuple(images.shape[1:])}: {reason(error)}",
                    "give images of the shape that the model expects",
                ) from error
        return as_matrix(result)

    @property
    def final(self) -> str | None:
        """What was stripped from the model's end."""
        return self.graph.final if self.capturable else None

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Scores of all classes, shape (n, classes): logits, or probabilities where those are asked for."""
        return scores(logits, self.output, self.final)

    def explained(self, logits: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        """Pick the explained score, one an image: logit (or probability) of its target; differentiable.

        The single logit z of a one-logit model is the score of class 1, and −z that of class 0.
        """
        wanted = self.targets if targets is None else targets
        if logits.shape[1] == 1 and self.output == "logit":
            return torch.where(wanted == 1, logits[:, 0], -logits[:, 0])
        return self.scores(logits).gather(1, wanted[:, None])[:, 0]


def scores(logits: torch.Tensor, output: str, final: str | None) -> torch.Tensor:
    """Scores of all classes from the model's logits: a single logit z counts as the two logits (0, z)."""
    single = logits.shape[1] == 1
    if output == "logit":
        return torch.cat([torch.zeros_like(logits), logits], 1) if single else logits
    if single:
        return torch.sigmoid(torch.cat([-logits, logits], 1))
    return torch.sigmoid(logits) if final == "sigmoid" else torch.softmax(logits, 1)


def as_matrix(result: object) -> torch.Tensor:
    """Logits of a model that was not captured, shape (n, outputs).

    Raises
    ------
    pipeline.errors.ModelError
        If the model returned something else.
    """
    if (
        isinstance(result, torch.Tensor)
        and result.ndim >= 1
        and result[0].numel() == result.shape[1:].numel()
    ):
        flat = result.reshape(result.shape[0], -1)
        if result.ndim <= 2 or flat.shape[1] == result.shape[1]:
            return flat
    raise ModelError(
        "the model does not return one tensor of logits", "wrap it so that it returns (images, classes)"
    )


def resolve_targets(target: object, scores_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which class of which image is to be explained.

    Returns
    -------
    images, targets : torch.Tensor of int64, shape (maps,)
        Index of the image and class, one a map.

    Raises
    ------
    pipeline.errors.MethodError
        If the target is none of: a class, one class an image, `"top-3"`.
    """
    n, classes = scores_.shape
    every = torch.arange(n, device=scores_.device)
    unknown = MethodError(f"target {target!r} is not known", 'give a class index, one per image, or "top-3"')
    if isinstance(target, str):
        k = int(target[4:]) if target.startswith("top-") and target[4:].isdecimal() else 0
        if k < 1:
            raise unknown
        k = min(k, classes)
        return every.repeat_interleave(k), scores_.topk(k, dim=1).indices.reshape(-1)
    try:
        given = torch.as_tensor(target, device=scores_.device)
    except (TypeError, ValueError, RuntimeError):
        raise unknown from None
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
        raise unknown
    if given.numel() == 1:
        given = given.reshape(1).expand(n)
    if given.shape != (n,):
        raise MethodError(f"{given.numel()} targets for {n} images", "give one target, or one per image")
    wrong = given[(given < 0) | (given >= classes)]
    if wrong.numel():
        raise MethodError(
            f"target {int(wrong[0])} is out of range", f"the model has {classes} classes: 0 to {classes - 1}"
        )
    return every, given.long()

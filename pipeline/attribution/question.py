"""What a method is asked (model, images, target) and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import nn

from pipeline.attribution.labels import present_labels
from pipeline.errors import MethodError, ModelError
from pipeline.models.graph.captured import CapturedGraph, capture
from pipeline.models.graph.quiet import quiet, reason

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Answer:
    """What a method computed; `attribute` makes a `Relevance` of it.

    Attributes
    ----------
    values : torch.Tensor, shape (N, 1 or C, *spatial)
    logits : torch.Tensor, shape (N, model outputs)
        As the model gave them for the images.
    region_scores, conservation_error, bias_share
        As in `Relevance`.
    details : mapping
        What is the same for every map.
    each : mapping of str to tensor or list, N long
        What differs from map to map; it stands in `Relevance.details` as well.
    """

    values: torch.Tensor
    logits: torch.Tensor
    region_scores: torch.Tensor | None = None
    conservation_error: torch.Tensor | None = None
    bias_share: torch.Tensor | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    each: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Question:
    """One question: why does `model` give `images` their `targets` scores.

    Where several classes of the same images are explained, each is a question of its own (`round`), and what
    does not depend on the class is computed once for all of them: see `once`.

    Attributes
    ----------
    model : torch.nn.Module
    images : torch.Tensor, shape (N, C, *spatial)
        In the model's type, on its device.
    wanted : torch.Tensor of int64, shape (N, rounds), or int
        Classes of each image, checked; or how many of the likeliest.
    regions : torch.Tensor of int64 or None, shape (N, *spatial)
        Labels, 0 = none.
    output : {"logit", "probability"}
        Which score is explained.
    round : int
        Which of the classes is explained.
    """

    model: nn.Module
    images: torch.Tensor
    wanted: torch.Tensor | int
    regions: torch.Tensor | None = None
    output: str = "logit"
    round: int = 0
    _shared: dict[str, Any] = field(default_factory=dict, repr=False)

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """Compute what all rounds have in common (a forward pass, say) in the first, and find it again."""
        if name not in self._shared:
            self._shared[name] = compute()
        return self._shared[name]  # type: ignore[no-any-return]

    def again(self, round_: int) -> Question:
        """Ask the same for another of the classes."""
        return replace(self, round=round_)

    @property
    def graph(self) -> CapturedGraph:
        """The captured graph of the model for these images."""
        return self.once("graph", lambda: capture(self.model, self.images))

    @property
    def present(self) -> tuple[int, ...]:
        """Labels above 0 that the regions of any image hold, ascending."""
        regions = self.regions
        return () if regions is None else self.once("present", lambda: present_labels(regions))

    @property
    def capturable(self) -> bool:
        """Whether the model can be captured (else only plain forward passes are possible)."""

        def tried() -> bool:
            try:
                return self.graph is not None
            except ModelError:
                return False

        return self.once("capturable", tried)

    @property
    def logits(self) -> torch.Tensor:
        """Logits of the images, shape (N, model outputs); from a method's own pass if there was one."""
        return self.once("logits", lambda: self.forward(self.images))

    def passed(self, logits: torch.Tensor) -> None:
        """Keep the logits of a method's own forward pass: `logits` need not compute them again."""
        self.once("logits", logits.detach)

    @property
    def all_targets(self) -> tuple[torch.Tensor, ...]:
        """Classes to explain, one tensor of int64, shape (N,), a round."""
        wanted = self.wanted
        if isinstance(wanted, int):
            likeliest = self.once("likeliest", lambda: self.scores(self.logits).topk(wanted).indices)
            return likeliest.unbind(1)
        return wanted.unbind(1)

    @property
    def targets(self) -> torch.Tensor:
        """Class of each image, shape (N,)."""
        return self.all_targets[self.round]

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


def check_target(target: object, images: int, classes: int) -> torch.Tensor | int:
    """Which classes of which image are to be explained.

    Returns
    -------
    torch.Tensor of int64, shape (images, maps of each), or int
        The classes; or how many of the likeliest.

    Raises
    ------
    pipeline.errors.MethodError
        If the target is none of: a class, one or several classes an image, `"top-3"`.
    """
    unknown = MethodError(
        f"target {target!r} is not known", 'give a class index, one (or a list) per image, or "top-3"'
    )
    if isinstance(target, str):
        count = int(target[4:]) if target.startswith("top-") and target[4:].isdecimal() else 0
        if count < 1:
            raise unknown
        return min(count, classes)
    try:
        given = torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError):
        raise unknown from None
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool or given.ndim > 2:
        raise unknown
    if given.numel() == 1:
        given = given.reshape(1, 1).expand(images, 1)
    if given.ndim == 1:
        given = given[:, None]
    if given.shape[0] != images or not given.numel():
        raise MethodError(
            f"{len(given)} targets for {images} images", "give one target, or one (or a list) per image"
        )
    wrong = given[(given < 0) | (given >= classes)]
    if wrong.numel():
        raise MethodError(
            f"target {int(wrong[0])} is out of range", f"the model has {classes} classes: 0 to {classes - 1}"
        )
    return given.long()

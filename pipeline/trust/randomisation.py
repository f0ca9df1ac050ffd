"""Cascading randomisation of weights: whether a map changes when the model forgets what it has learnt.

Layers are redrawn from the output downwards, cumulatively (Adebayo et al. 2018, arXiv:1810.03292). A map that
stays as it was shows the image, not the model. BatchNorm of redrawn layers is calibrated on the cohort's
images after each step; without that a randomised network dies out and every map becomes zero (docs/trust.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.comparison.twins import copied, recalibrate, redrawn
from pipeline.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

STAGES = 5
"""Steps of a cascade; deeper networks have several layers redrawn at a step."""
CASCADES = 3
"""Cascades, each with weights of its own: their last steps are as many independent random models."""
ALIKE = 0.95
"""Maps of independent random models that are more alike than this say nothing of any model."""


@dataclass(frozen=True)
class Stage:
    """How far a cascade has come.

    Attributes
    ----------
    layers : int
        Layers redrawn so far, counted from the output.
    of : int
        Layers with weights in all.
    lowest : str
        The redrawn layer that is nearest to the image.
    passes : int
        Forward passes of one image that calibrating BatchNorm took.
    """

    layers: int
    of: int
    lowest: str
    passes: int = 0

    @property
    def counts(self) -> bool:
        """Whether what is left of a map after this step counts: not where the output layer alone is redrawn.

        What stands below it still knows all that the model has learnt, and how a few new numbers read it out
        is chance: where the features say all the same, a new output layer can only turn the map over or scale
        it (docs/trust.md).
        """
        return self.layers > 1 or self.of == 1


def layers_in_order(model: nn.Module, example: torch.Tensor) -> list[list[str]]:
    """Parameters and buffers of a model, layer by layer, in the order in which the model computes.

    Parameters
    ----------
    model : torch.nn.Module
        Also TorchScript.
    example : torch.Tensor, shape (N, C, *spatial)
        An image, for its shape.

    Returns
    -------
    list of list of str
        One list a layer, weights (of two axes or more) first; biases and normalisations belong to the weights
        before them. From the captured computation where the model can be captured, else as defined.
    """
    from pipeline.models.graph import capture

    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    try:
        graph = capture(model, example)
    except ModelError:
        used = list(tensors)
    else:
        names = graph.structure.parameters
        used = [names[value] for op in graph.operations for value in op.inputs if value in names]
    layers: list[list[str]] = []
    for name in dict.fromkeys(used):
        starts = name in tensors and tensors[name].ndim > 1
        if starts or not layers:
            layers.append([])
        layers[-1].append(name)
    if len(layers) > 1 and not any(name in tensors and tensors[name].ndim > 1 for name in layers[0]):
        layers[:2] = [layers[0] + layers[1]]  # a normalisation of the image itself
    return layers


def cascade(
    model: nn.Module, images: Sequence[torch.Tensor], *, stages: int = STAGES, seed: int = 0
) -> Iterator[tuple[Stage, nn.Module]]:
    """Redraw a copy of a model from its output downwards.

    Parameters
    ----------
    model : torch.nn.Module
        Left as it is.
    images : sequence of torch.Tensor, each of shape (N, C, *spatial)
        Batches of the cohort's own images, for BatchNorm.
    stages : int
        At most so many steps, spread evenly over the layers; the first redraws the output layer alone, the
        last redraws all.
    seed : int
        Of the weights: drawn once, so that a layer keeps its new weights when the next ones follow.

    Yields
    ------
    tuple of Stage and torch.nn.Module
        One and the same module, redrawn further at each step.

    Raises
    ------
    ModelError
        If the model cannot be copied or has no weights.
    """
    import torch

    if not images:
        raise ModelError("weights cannot be randomised without images", "give images of the cohort")
    layers = layers_in_order(model, images[0])[::-1]
    if not layers:
        raise ModelError("the model has no weights to randomise", "leave randomisation out")
    twin, drawn = copied(model), dict(redrawn(model, seed=seed).named_parameters())
    done = 0
    for count in _counts(len(layers), stages):
        with torch.no_grad():
            own = dict(twin.named_parameters())
            for name in (name for layer in layers[done:count] for name in layer):
                if name in drawn:
                    own[name].copy_(drawn[name])
        changed = {name.rpartition(".")[0] for layer in layers[:count] for name in layer}
        passes = recalibrate(twin, images, only=changed)
        done = count
        lowest = layers[count - 1][0]
        yield Stage(count, len(layers), lowest.rpartition(".")[0] or lowest, passes), twin


def remaining(likeness: npt.ArrayLike, random: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """How much of a map is left after randomisation: 1 if unchanged, 0 if no more alike than random models.

    Parameters
    ----------
    likeness : array
        Similarity of the trained model's map to that of a randomised one.
    random : array
        Mean similarity of maps of pairs of independent random models on the same image.

    Returns
    -------
    ndarray of float64
        (likeness − random) / (1 − random); NaN where maps of random models are practically equal.
    """
    alike, base = np.asarray(likeness, np.float64), np.asarray(random, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        left: npt.NDArray[np.float64] = np.where(base <= ALIKE, (alike - base) / (1 - base), np.nan)
    return left


def left_over_draws(
    likeness: npt.ArrayLike, between: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Tell what is left of each image's map, mean over the steps of several cascades.

    Parameters
    ----------
    likeness : array, shape (draws, steps, images)
        Similarity of the trained model's maps to those after each step that counts of each cascade.
    between : array, shape (draws, draws, images)
        Similarity of the maps of the cascades' last steps, models in which all is random, to each other; the
        diagonal is not looked at.

    Returns
    -------
    left : ndarray of float64, shape (images,)
        As for `remaining`; maps of random models are the mean over their pairs.
    draws : ndarray of float64, shape (draws, images)
        Pseudo-values of the jackknife over draws (Tukey 1958): D · left − (D − 1) · left without this draw. A
        draw takes part in its own cascade and in the pairs, so that cascades alone would not show how far
        another draw could have led. NaN with fewer than three draws, which leave no pair.
    """
    alike, pairs = np.asarray(likeness, np.float64), np.asarray(between, np.float64)
    every = range(len(alike))

    def left(draws: Sequence[int]) -> npt.NDArray[np.float64]:
        base = np.mean([pairs[a, b] for a, b in combinations(draws, 2)], axis=0)
        mean: npt.NDArray[np.float64] = remaining(alike[list(draws)], base).mean(axis=(0, 1))
        return mean

    whole = left(every)
    if len(alike) < CASCADES:
        return whole, np.full((len(alike), len(whole)), np.nan)
    without = [left([d for d in every if d != out]) for out in every]
    return whole, len(alike) * whole - (len(alike) - 1) * np.array(without)


def steps_of(model: nn.Module, example: torch.Tensor, stages: int = STAGES) -> int:
    """How many steps a cascade of this model has."""
    return len(_counts(len(layers_in_order(model, example)), stages))


def _counts(layers: int, stages: int) -> list[int]:
    """Layers redrawn after each step: 1 first, all last, evenly spread between."""
    counts = np.linspace(1, layers, min(stages, layers)).round().astype(int)
    return [int(count) for count in np.unique(counts)]
